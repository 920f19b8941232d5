#!/usr/bin/env python3
"""python.py [--rounds N] [--seconds S] [--only TEXT]: queues for Python beside those of multiprocessing.

Each cell is the rate, in objects a second, at which P processes put an object again and again and C processes
get it. The rounds of all queues alternate. The median of each is shown, and how many times that of
multiprocessing.Queue it is. forkq must be on sys.path: PYTHONPATH=build/benchmark/src/python.
"""
import argparse
import multiprocessing
import statistics
import time

import forkq

PAYLOADS = {
    "64 B bytes": b"x" * 64,
    "dict": {"id": 1, "name": "abc", "values": [1, 2, 3], "ok": True},
    "1 KiB bytes": b"x" * 1024,
    "64 KiB bytes": bytes(1 << 16),
    "1 MiB bytes": bytes(1 << 20),
}
try:
    import numpy

    PAYLOADS["1080p array"] = numpy.zeros((1080, 1920, 3), numpy.uint8)
except ImportError:
    pass

BATCH = 64
FIRST_COUNT = 2000  # objects of the first round, from which the others get theirs
MAXSIZE = 1000  # small objects; a queue without a limit would measure the memory
MAXSIZE_LARGE = 16
LARGE = 1 << 16
fork = multiprocessing.get_context("fork")


class OneByOne:
    def __init__(self, queue):
        self.put, self.queue = queue.put, queue

    def put_all(self, value, count):
        for _ in range(count):
            self.put(value)

    def get_all(self, count):
        get = self.queue.get
        for _ in range(count):
            get()


class InBatches(OneByOne):
    def put_all(self, value, count):
        batch = [value] * BATCH
        while count > 0:
            count -= self.queue.put_many(batch[:count])

    def get_all(self, count):
        while count > 0:
            count -= len(self.queue.get_many(min(count, BATCH)))


def kinds(name, maxsize):
    """Each kind of queue, by its name."""
    made = {
        "multiprocessing.Queue": lambda: OneByOne(fork.Queue(maxsize)),
        "multiprocessing.SimpleQueue": lambda: OneByOne(fork.SimpleQueue()),
        "forkq.Queue": lambda: OneByOne(forkq.Queue(maxsize)),
        "forkq.SimpleQueue": lambda: OneByOne(forkq.SimpleQueue()),
    }
    if name == "dict":
        made["forkq.Queue, msgpack"] = lambda: OneByOne(forkq.Queue(maxsize, codec="msgpack"))
    if maxsize == MAXSIZE:
        made[f"forkq.Queue, by {BATCH}"] = lambda: InBatches(forkq.Queue(maxsize))
    return made


def wait_and(barrier, function, *arguments):
    barrier.wait()
    function(*arguments)


def rate(make, value, producers, consumers, count):
    """Objects a second, from the moment at which all processes are there to the end of the last one."""
    queue = make()
    share = count // (producers * consumers) or 1  # of one pair
    barrier = fork.Barrier(producers + consumers + 1)
    processes = [
        fork.Process(target=wait_and, args=(barrier, queue.put_all, value, share * consumers))
        for _ in range(producers)
    ] + [
        fork.Process(target=wait_and, args=(barrier, queue.get_all, share * producers))
        for _ in range(consumers)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    begin = time.monotonic()
    for process in processes:
        process.join()
    return share * producers * consumers / (time.monotonic() - begin)


def measure(name, shape, rounds, seconds):
    value = PAYLOADS[name]
    size = getattr(value, "nbytes", len(value))
    makes = kinds(name, MAXSIZE if size < LARGE else MAXSIZE_LARGE)
    first = FIRST_COUNT if size < LARGE else 100
    counts = {kind: int(rate(make, value, *shape, first) * seconds) + 1 for kind, make in makes.items()}
    rates = {kind: [] for kind in makes}
    for _ in range(rounds):
        for kind, make in makes.items():
            rates[kind].append(rate(make, value, *shape, counts[kind]))
    return {kind: statistics.median(measured) for kind, measured in rates.items()}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print("| object | processes | queue | a second | times |\n|---|---|---|---|---|")
    for shape in ((1, 1), (4, 4)):
        for name in PAYLOADS:
            if options.only not in name:
                continue
            rates = measure(name, shape, options.rounds, options.seconds)
            base = rates["multiprocessing.Queue"]
            for kind, measured in rates.items():
                cells = name, f"{shape[0]}x{shape[1]}", kind, f"{measured:,.0f}", f"{measured / base:.1f}"
                print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
