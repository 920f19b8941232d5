#!/usr/bin/env python3
"""test_lineserver.py SERVER [unix]: an example under load, over TCP or a Unix socket.

200 clients send 100,000 lines in all. Some send without reading answers for a while, one sends
ever longer lines, one goes away in the middle; a worker is killed. Every answer must be right,
on its own connection and in order, and the server's memory bounded.
"""
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile

CLIENTS = 200
LINES = 500
MEMORY_KIB = 96 * 1024  # peak; 200 connections have 64 KiB each for their longest line
SECONDS = 100


def lines_of(client):
    source = random.Random(client)
    letters = "abcdefghijklmnopqrstuvwxyz 0123456789"
    for number in range(LINES):
        size = 40 * number if client == 0 else source.randrange(60)
        text = "".join(source.choices(letters, k=size))
        yield f"{client}:{number}:{text}".encode()


async def connect(port):
    if port.startswith("/"):
        return await asyncio.open_unix_connection(port, limit=1 << 20)
    return await asyncio.open_connection("127.0.0.1", int(port), limit=1 << 20)


async def send(writer, client):
    for line in lines_of(client):
        writer.write(line + b"\n")
        await writer.drain()
    writer.write_eof()


async def talk(port, client, started):
    reader, writer = await connect(port)
    sending = asyncio.create_task(send(writer, client))
    if client % 10 == 1:  # all is sent, as far as it goes, before anything is read
        await asyncio.wait({sending}, timeout=1)
    for number, line in enumerate(lines_of(client)):
        answer = await reader.readline()
        assert answer == line[::-1] + b"\n", (client, number, answer[:80])
        if number == LINES // 2:
            started.set()
    assert await reader.read() == b"", client
    await sending
    writer.close()


async def go_away(port):
    """Sends lines and does not wait for the answers."""
    _, writer = await connect(port)
    writer.write(b"nobody waits for this\n" * 1000)
    await writer.drain()
    writer.transport.abort()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


async def kill_a_worker(pid, started):
    await started.wait()
    before = children(pid)
    os.kill(before[0], signal.SIGKILL)
    while set(children(pid)) & {before[0]} or len(children(pid)) < len(before):
        await asyncio.sleep(0.01)


async def all_clients(port, pid):
    started = asyncio.Event()
    await asyncio.gather(
        kill_a_worker(pid, started),
        *(go_away(port) for _ in range(3)),
        *(talk(port, client, started) for client in range(CLIENTS)),
    )


def peak_memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    raise RuntimeError("no VmHWM")


def ended_with_its_workers(server, workers):
    """Ctrl-C reaches the whole group; the workers are the server's to end all the same."""
    os.killpg(server.pid, signal.SIGINT)
    status = server.wait(20)
    assert status == 0, status
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)


def main():
    with tempfile.TemporaryDirectory() as directory:
        run(os.path.join(directory, "socket") if "unix" in sys.argv else "0")
        assert not os.listdir(directory)


def run(place):
    server = subprocess.Popen(
        [sys.argv[1], place, "4"], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        port = server.stdout.readline().decode().strip()
        asyncio.run(asyncio.wait_for(all_clients(port, server.pid), SECONDS))
        peak = peak_memory(server.pid)
        # A sanitizer's own memory is not the server's.
        if os.environ.get("FORKQ_SANITIZED") != "1":
            assert peak < MEMORY_KIB, peak
        ended_with_its_workers(server, children(server.pid))
        print(f"{CLIENTS * LINES} answers, peak {peak} KiB")
    finally:
        if server.poll() is None:
            server.kill()
        server.stdout.close()


main()
