#!/usr/bin/env python3
"""mapreduce.py [FILE...]: lines, words and bytes of files, as wc counts them, with a few workers.

mapreduce.c is this program in C, statement by statement.
"""
import sys
from multiprocessing import Process, Queue

WORKERS = 4


def count(path):
    lines = words = size = 0
    with open(path, "rb") as file:
        for line in file:
            lines += line.endswith(b"\n")
            words += len(line.split())
            size += len(line)
    return lines, words, size


def show(counts, name):
    print("%(lines)8d %(words)8d %(bytes)8d" % counts, name)


def work(tasks, results):
    while True:
        task = tasks.get()
        if task is None:
            break
        try:
            lines, words, size = count(task["path"])
        except OSError as error:
            print("mapreduce:", error, file=sys.stderr)
            lines = words = size = 0
        results.put({"id": task["id"], "lines": lines, "words": words, "bytes": size})


def main():
    paths = sys.argv[1:]
    tasks, results = Queue(), Queue()
    workers = [Process(target=work, args=(tasks, results)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for number, path in enumerate(paths):
        tasks.put({"id": number, "path": path})
    for worker in workers:
        tasks.put(None)
    found = {}
    for _ in paths:
        result = results.get()
        found[result["id"]] = result
    for worker in workers:
        worker.join()
    total = {"lines": 0, "words": 0, "bytes": 0}
    for number, path in enumerate(paths):
        result = found[number]
        show(result, path)
        for key in total:
            total[key] += result[key]
    show(total, "total")


if __name__ == "__main__":
    main()
