#!/usr/bin/env python3
"""test_redis_python.py PEER SCRIPTS: a program that is not forkq's uses a queue of a Redis server.

It has nothing but a socket, and the scripts of src/redis/lua, which it runs as their comments say. PEER, which uses
libforkq-redis, is at the other end."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

PEER, SCRIPTS = sys.argv[1:]
PATIENCE = 20
KEY = b"{fq:jobs}:"


def start(*command, **options):
    """Starts a program, which is killed when this test ends in whatever way."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], **options)


def read_script(name):
    """A script with the files that it includes."""
    with open(os.path.join(SCRIPTS, name), encoding="ascii") as file:
        return re.sub(r"^ *-- include (\S+)$", lambda m: read_script(m[1]), file.read(), flags=re.M)


class Server:
    """A connection, and the protocol RESP 2 on it."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def receive(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.receive() for _ in range(int(rest))]
        return rest

    def ask(self, *words):
        self.send(*words)
        return self.receive()


class Queue:
    """What a client does. A message is msgpack: here, short strings."""

    def __init__(self, path, maxsize, joinable, lease=30000):
        self.server = Server(path)
        self.lease = lease
        self.scripts = {name: self.server.ask("SCRIPT", "LOAD", read_script(name + ".lua"))
                        for name in ("open", "put", "ask", "fetch", "done", "beat", "leave", "join", "shut", "stat")}
        self.client = self.run("open", maxsize, joinable, lease, "", 0)[0]
        self.number = 1
        self.done = []

    def run(self, name, *words):
        return self.server.ask("EVALSHA", self.scripts[name], 1, KEY, *words)

    @staticmethod
    def pack(text):
        return bytes([0xA0 + len(text)]) + text.encode()

    def put(self, *texts, wait_ms=0):
        bodies = [self.pack(text) for text in texts]
        count = self.run("put", self.client, self.number, wait_ms, *bodies)
        if count == -1:  # it waits: its mailbox says when it is in
            says = self.server.ask("BLPOP", KEY + b"b:%d" % self.client, PATIENCE)
            assert says[1].rstrip(b"S") == b"%d" % self.number, says
            count = -2 if says[1].endswith(b"S") else 1
        self.number += max(count, 0)
        return count

    def get(self, most=1, wait=False):
        """The items, each with how often it was given back; None: the queue is shut down and empty."""
        if wait:
            self.server.ask("BLMOVE", KEY + b"i", KEY + b"t:%d" % self.client, "LEFT", "RIGHT", PATIENCE)
        answer = self.run("fetch", self.client, most, "fetch", "known")
        items = list(zip(answer[1::3], answer[2::3], answer[3::3]))
        self.done += [i[0] for i in items]
        return None if answer[0] and not items else [(body[1:].decode(), int(times)) for _, body, times in items]

    def task_done(self):
        return self.run("done", self.client, self.done.pop(0))

    def beat(self):
        return self.run("beat", self.lease, self.client)

    def leave(self):
        return self.run("leave", self.client)


class Peer:
    """The program that uses the library."""

    def __init__(self, path, query):
        url = f"redis+unix://{path}?queue=jobs&{query}"
        self.process = start(PEER, url, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, name, timeout=0, text="-"):
        self.process.stdin.write(f"{name} {timeout} {text}\n")
        self.process.stdin.flush()

    def end(self):
        return self.process.stdout.readline().strip()

    def call(self, *words):
        self.begin(*words)
        return self.end()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(PATIENCE) == 0


def equal(is_, should):
    assert is_ == should, f"{is_!r}, not {should!r}"


def until(server, should, *words):
    end = time.monotonic() + PATIENCE
    while server.ask(*words) != should:
        assert time.monotonic() < end, words
        time.sleep(0.001)


def there_and_back(path):
    peer, queue = Peer(path, "maxsize=4&joinable=1"), Queue(path, 4, 1)
    equal(queue.put("a", "b"), 2)
    equal(peer.call("qsize"), "2")
    equal(peer.call("get"), "a 0")
    equal(peer.call("get"), "b 0")
    equal(peer.call("put", 0, "c"), "0")
    equal(queue.get(), [("c", 0)])
    equal(queue.get(), [])
    equal(queue.run("join")[0], 3)
    equal(queue.run("stat"), [0, 4, 0, 3, 0])
    equal(queue.task_done(), 1)
    equal([peer.call("done") for _ in range(2)], ["0", "0"])
    equal(peer.call("join"), "0")
    equal(queue.run("join")[0], 0)
    equal(queue.leave(), 0)
    peer.close()


def waits(path):
    peer, queue, look = Peer(path, "maxsize=2"), Queue(path, 2, "", 30000), Server(path)
    peer.begin("get", -1)
    until(look, 1, "EVAL", "return tonumber(string.match(redis.call('INFO', 'clients'), 'blocked_clients:(%d+)'))", 0)
    equal(queue.put("a"), 1)
    equal(peer.end(), "a 0")
    equal(queue.put("b", "c", "d"), 2)
    equal(queue.put("d"), 0)
    peer.begin("put", -1, "d")
    until(look, 1, "LLEN", KEY + b"w")
    equal(queue.get(2), [("b", 0), ("c", 0)])
    equal(peer.end(), "0")
    equal(queue.get(wait=True), [("d", 0)])
    equal(queue.put("e", "f"), 2)
    queue.server.send("EVALSHA", queue.scripts["put"], 1, KEY, queue.client, queue.number, -1, queue.pack("g"))
    equal(queue.server.receive(), -1)
    equal(peer.call("get"), "e 0")
    equal(queue.server.ask("BLPOP", KEY + b"b:%d" % queue.client, PATIENCE)[1], b"%d" % queue.number)
    equal([peer.call("get") for _ in range(3)], ["f 0", "g 0", "FORKQ_EMPTY"])
    queue.leave()
    peer.close()


def a_put_has_its_effect_once(path):
    peer, queue = Peer(path, "maxsize=4"), Queue(path, 4, "")
    equal(queue.put("a"), 1)
    queue.number -= 1  # the answer was lost
    equal(queue.put("a"), 1)
    equal(peer.call("qsize"), "1")
    equal(queue.run("ask", queue.client, queue.number, 1, 1), 0)
    equal(queue.put("b"), 1)  # it has given up: this is not put
    equal(peer.call("qsize"), "1")
    equal(peer.call("get"), "a 0")
    queue.leave()
    peer.close()


def leases(path):
    """What a client does not confirm comes back to the other one, where it does not beat."""
    peer, queue = Peer(path, "joinable=1&lease=300"), Queue(path, "", 1, 300)
    equal(peer.call("put", 0, "a"), "0")
    equal(queue.get(), [("a", 0)])
    equal(peer.call("get", PATIENCE * 1000), "a 1")
    equal(queue.task_done(), 0)
    equal(queue.beat(), [queue.client])
    equal(peer.call("done"), "0")
    equal(queue.put("b"), 1)
    equal(peer.call("get"), "b 0")
    peer.close()
    equal(queue.get(), [("b", 1)])
    equal(queue.task_done(), 1)
    queue.leave()


def shutdown(path):
    peer, queue = Peer(path, "maxsize=1"), Queue(path, 1, "")
    equal(queue.put("a"), 1)
    equal(queue.run("shut", 0), 1)
    equal(peer.call("put", 0, "b"), "-20024")
    equal(queue.put("b"), -2)
    equal(peer.call("get"), "a 0")
    equal(peer.call("get", -1), "FORKQ_ESHUTDOWN")
    equal(queue.get(wait=True), None)
    queue.leave()
    peer.close()


def connect(path, server):
    """A connection to the server, which is about to listen."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return Server(path)
        except (FileNotFoundError, ConnectionRefusedError):
            assert server.poll() is None and time.monotonic() < end
            time.sleep(0.005)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the directory goes away
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        server = start("redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--dir", directory,
                       "--unixsocket", path, stdout=subprocess.DEVNULL)
        try:
            look = connect(path, server)
            for test in (there_and_back, waits, a_put_has_its_effect_once, leases, shutdown):
                look.ask("FLUSHALL")
                test(path)
        finally:
            server.kill()
            server.wait()


main()
