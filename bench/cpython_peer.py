"""One run of multiprocessing's queues: processes, clock and checks as in run.c.

cpython_peer.py KIND MEASURE PRODUCERS CONSUMERS SIZE BOUND MESSAGES PLACE QUANTILES

KIND is queue, object, simple or pipe; processes are forked. Prints seconds, CPU seconds,
peak KiB and, for round trips, their mean and quantiles in microseconds.

A payload is a head (producer, check, number) and a filler, joined anew for each message:
what is put must not change behind the queue's back. That copy is a few percent of what
putting 1 MiB costs.
"""

import ctypes
import multiprocessing
import os
import resource
import signal
import struct
import sys
import time

RUN_SECONDS_MAX = 60
HEAD = struct.Struct("<IIQ")
LAST = 0xFFFFFFFF
NUMBER_BITS = 40
NAME = "a name"

context = multiprocessing.get_context("fork")


class Bytes:
    """Messages of bytes."""

    def __init__(self, size):
        self.size = size
        self.filler = bytes(size - HEAD.size)

    def make(self, producer, number):
        check = (number * 2654435761 ^ producer) & 0xFFFFFFFF
        return HEAD.pack(producer, check, number) + self.filler

    def read(self, message):
        producer, check, number = HEAD.unpack_from(message)
        if len(message) != self.size or check != (number * 2654435761 ^ producer) & 0xFFFFFFFF:
            raise ValueError("a message is damaged")
        return producer, number


class Objects:
    """The dict."""

    @staticmethod
    def make(producer, number):
        return {
            "id": producer << NUMBER_BITS | number,
            "name": NAME,
            "values": [float(number), 0.5, -1.25],
        }

    @staticmethod
    def read(message):
        producer, number = message["id"] >> NUMBER_BITS, message["id"] & (1 << NUMBER_BITS) - 1
        if message["name"] != NAME or message["values"] != [float(number), 0.5, -1.25]:
            raise ValueError("a message is damaged")
        return producer, number


class Pipe:
    """A pipe in the shape of a queue, for one process at each end."""

    def __init__(self):
        self.reader, self.writer = context.Pipe(duplex=False)
        self.put = self.writer.send
        self.get = self.reader.recv


def make_queue(kind, bound):
    if kind == "pipe":
        return Pipe()
    if kind == "simple":
        return context.SimpleQueue()
    return context.Queue(bound)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def produce(queue, messages, ready, start, index, count, consumers):
    die_with_parent()
    put, make = queue.put, messages.make
    ready.release()
    start.wait()
    for number in range(1, count + 1):
        put(make(index, number))
    for _ in range(consumers):
        put(make(LAST, 0))


def consume(queue, messages, ready, start, results, producers):
    die_with_parent()
    get, read = queue.get, messages.read
    seen = [0] * producers
    received = total = timed = end = 0
    left = producers
    ready.release()
    start.wait()
    while left:
        producer, number = read(get())
        if producer == LAST:
            left -= 1
            if received > timed:
                timed, end = received, time.monotonic()
            continue
        if number <= seen[producer]:
            raise ValueError("a message is out of order")
        seen[producer] = number
        received += 1
        total += number
    results.put((received, total, end))


def wait_for(processes):
    """Their end; returns CPU seconds and peak KiB."""
    cpu = peak = 0
    for process in processes:
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit("a process failed")
        cpu += usage.ru_utime + usage.ru_stime
        peak += usage.ru_maxrss
    return cpu, peak


def start_all(processes, ready, start):
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    begin = time.monotonic()
    start.set()
    return begin


def throughput(kind, messages, producers, consumers, bound, count):
    queue, results = make_queue(kind, bound), context.SimpleQueue()
    ready, start = context.Semaphore(0), context.Event()
    processes = [
        context.Process(target=consume, args=(queue, messages, ready, start, results, producers))
        for _ in range(consumers)
    ] + [
        context.Process(
            target=produce, args=(queue, messages, ready, start, index, count, consumers)
        )
        for index in range(producers)
    ]
    begin = start_all(processes, ready, start)
    tallies = [results.get() for _ in range(consumers)]
    cpu, peak = wait_for(processes)
    if sum(tally[0] for tally in tallies) != producers * count:
        sys.exit("messages were lost")
    if sum(tally[1] for tally in tallies) != producers * (count * (count + 1) // 2):
        sys.exit("messages were doubled")
    print(max(tally[2] for tally in tallies) - begin, cpu, peak)


def go_to_place(place, member):
    cpus = sorted(os.sched_getaffinity(0))
    if place != "anywhere":
        os.sched_setaffinity(0, {cpus[member if place == "two" else 0]})


def serve(there, back, messages, ready, start, trips, place):
    die_with_parent()
    go_to_place(place, 1)
    ready.release()
    start.wait()
    for number in range(1, trips + 1):
        if messages.read(there.get())[1] != number:
            raise ValueError("a message is out of order")
        back.put(messages.make(0, number))


def ask(there, back, messages, ready, start, first, count, place, results, quantiles):
    die_with_parent()
    go_to_place(place, 0)
    trips = []
    ready.release()
    start.wait()
    for number in range(1, first + count + 1):
        sent = time.monotonic()
        there.put(messages.make(0, number))
        if messages.read(back.get())[1] != number:
            raise ValueError("not the answer")
        trips.append(time.monotonic() - sent)
    end = time.monotonic()
    trips = sorted(1e6 * trip for trip in trips[first:])
    values = [trips[int(at * (count - 1))] for at in quantiles]
    results.put((end, sum(trips) / count, values))


def round_trip(kind, messages, bound, count, place, quantiles):
    there, back = make_queue(kind, bound), make_queue(kind, bound)
    ready, start, results = context.Semaphore(0), context.Event(), context.SimpleQueue()
    first = count // 10 + 10
    common = (there, back, messages, ready, start)
    processes = [
        context.Process(target=serve, args=(*common, first + count, place)),
        context.Process(target=ask, args=(*common, first, count, place, results, quantiles)),
    ]
    begin = start_all(processes, ready, start)
    end, mean, values = results.get()
    cpu, peak = wait_for(processes)
    print(end - begin, cpu, peak, mean, *values)


def main():
    kind, measure, producers, consumers, size, bound, count, place, quantiles = sys.argv[1:]
    signal.alarm(RUN_SECONDS_MAX)
    messages = Objects() if kind == "object" else Bytes(int(size))
    if measure == "throughput":
        throughput(kind, messages, int(producers), int(consumers), int(bound), int(count))
    else:
        values = [float(value) for value in quantiles.split(",")]
        round_trip(kind, messages, int(bound), int(count), place, values)
    sys.stdout.flush()
    # The processes are waited for already; multiprocessing does not know.
    os._exit(0)


if __name__ == "__main__":
    main()
