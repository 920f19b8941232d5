#!/usr/bin/env python3
"""test_pool.py POOL: the example with crashes, kills and Ctrl-C.

Every number is answered but those with which a worker died, and no process stays.
"""
import os
import re
import resource
import signal
import subprocess
import sys
import time

WORKERS = 4
SECONDS = 60
ANSWERED = re.compile(r"(\d+) of (\d+) answered, the longest is (\d+) with (\d+) steps\n")


def start(*arguments):
    """In a session of its own, as on a terminal, where SIGINT is not ignored."""

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    # pylint: disable=subprocess-popen-preexec-fn,consider-using-with
    return subprocess.Popen(
        [sys.argv[1], *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare,
    )


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid):
    """A zombie that nobody reaps yet is gone, too."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def end(pool, status):
    """What it has printed: how many numbers have an answer, of how many; and its complaints."""
    out, complaints = pool.communicate(timeout=SECONDS)
    assert pool.returncode == status, (pool.returncode, complaints)
    answered, put, longest, steps = map(int, ANSWERED.fullmatch(out).groups())
    return answered, put, longest, steps, complaints


def answers_all():
    assert end(start("1000"), 0) == (1000, 1000, 871, 178, "")


def survives_a_crash():
    answered, put, longest, steps, complaints = end(start("1000", "871"), 1)
    assert (answered, put, longest, steps) == (999, 1000, 937, 173)
    assert complaints.count("exit code -6; another one starts") == 1, complaints
    assert complaints.count("871 stays without an answer\n") == 1, complaints
    assert complaints.count("\n") == 2, complaints


def replaces_a_killed_worker_and_ends_with_ctrl_c():
    pool = start()
    until(lambda: len(children(pool.pid)) == WORKERS)
    first = children(pool.pid)
    os.kill(first[0], signal.SIGKILL)
    until(lambda: len(children(pool.pid)) == WORKERS and first[0] not in children(pool.pid))
    workers = children(pool.pid)
    os.killpg(pool.pid, signal.SIGINT)
    answered, put, _, _, complaints = end(pool, 130)
    assert put - 1 <= answered <= put and put > 0, (answered, put)
    assert complaints.count(f"worker {first[0]}: exit code -9; another one starts") == 1
    lost = complaints.count("stays without an answer\n")
    assert lost <= 1 and complaints.count("\n") == 1 + lost, complaints
    assert put <= answered + lost <= put + 1, (answered, lost, put)
    assert all(map(is_gone, workers))


def leaves_no_worker_when_it_is_killed():
    pool = start()
    until(lambda: len(children(pool.pid)) == WORKERS)
    workers = children(pool.pid)
    pool.kill()
    pool.communicate(timeout=SECONDS)
    until(lambda: all(map(is_gone, workers)))


def main():
    cases = [
        answers_all,
        survives_a_crash,
        replaces_a_killed_worker_and_ends_with_ctrl_c,
        leaves_no_worker_when_it_is_killed,
    ]
    for case in cases:
        case()
    print(f"100%: Checks: {len(cases)}, Failures: 0, Errors: 0")


main()
