"""The rounds of kill_peers.c, for multiprocessing.Queue.

kill_peers.py TEST ROUNDS prints how many rounds went on, hung, failed.
"""

import ctypes
import multiprocessing
import os
import random
import signal
import sys
import time

HUNG_SECONDS = 2
RECEIVERS = 3
AFTER = 3
LARGE = 256 * 1024

context = multiprocessing.get_context("fork")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(target, *args):
    process = context.Process(target=target, args=args)
    process.start()
    return process


def until_asleep(pid):
    state = "R"
    while state != "S":
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            state = file.read().rpartition(")")[2].split()[0]
        time.sleep(0.0002)


def kill(process):
    process.kill()
    process.join()


def must_end(process):
    process.join()
    if process.exitcode != 0:
        os._exit(1)


def be_idle(queue):
    die_with_parent()
    queue.get()


def be_killed_sender(queue):
    die_with_parent()
    number = 0
    while True:
        number += 1
        queue.put((0, number, bytes([number % 256]) * LARGE))


def be_next_sender(queue):
    die_with_parent()
    for number in range(1, AFTER + 1):
        queue.put((1, number, bytes([number % 256]) * 64))


def be_receiver(queue):
    die_with_parent()
    while True:
        sender, number, payload = queue.get()
        if payload != bytes([number % 256]) * len(payload):
            raise ValueError("a message is torn")
        if sender == 1 and number == AFTER:
            return


def kill_receivers(queue):
    idle = [start(be_idle, queue) for _ in range(RECEIVERS)]
    for process in idle:
        until_asleep(process.pid)
        time.sleep(0.001)
        kill(process)
    receiver, sender = start(be_receiver, queue), start(be_next_sender, queue)
    must_end(receiver)
    must_end(sender)


def kill_sender(queue, moment):
    receiver, sender = start(be_receiver, queue), start(be_killed_sender, queue)
    time.sleep(moment)
    kill(sender)
    following = start(be_next_sender, queue)
    must_end(receiver)
    must_end(following)


def run_round(test, moment):
    """The status of a process that leads the round; a hung one ends by its alarm."""
    leader = os.fork()
    if leader == 0:
        die_with_parent()
        signal.alarm(HUNG_SECONDS)
        queue = context.Queue(10)
        if test == "receivers":
            kill_receivers(queue)
        else:
            kill_sender(queue, moment)
        os._exit(0)
    return os.waitpid(leader, 0)[1]


def main():
    test, rounds = sys.argv[1:]
    random.seed(1)
    verdicts = [0, 0, 0]
    for _ in range(int(rounds)):
        status = run_round(test, 0.005 + random.random() * 0.01)
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        verdicts[0 if status == 0 else 1 if hung else 2] += 1
    print(*verdicts)


if __name__ == "__main__":
    main()
