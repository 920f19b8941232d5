#!/usr/bin/env python3
"""Collects what programs report at a path, with several processes. The programs may be written in C: report.c.

    collect.py PATH COUNT

A report is a map with a name and a value, in msgpack. Each is printed by the process that got it.
"""
import sys
from multiprocessing import Process

from forkq import Queue, ShutDown

WORKERS = 2


def work(reports, printed):
    try:
        while True:
            report = reports.get()
            print(report["name"], report["value"], flush=True)
            printed.put(None)
    except ShutDown:
        pass  # all are printed


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    reports, printed = Queue(100, codec="msgpack"), Queue()
    workers = [Process(target=work, args=(reports, printed)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    reports.serve(path)
    for _ in range(count):
        printed.get()
    reports.shutdown()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
