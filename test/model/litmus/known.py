#!/usr/bin/env python3
"""Litmus tests of the literature: whether check.py judges them as is known of RC11."""

import re
import sys

import check


def expand(statement):
    """x=1.release, a=x.acquire, a=x+1.relaxed, fence.seq_cst: in the format of check.py."""
    short = [
        (r"(\w+)=(\d+)\.(\w+)", r"atomic_store_explicit(\1, \2, memory_order_\3)"),
        (r"(\w+)=(\w+)\+(\d+)\.(\w+)",
         r"int \1 = atomic_fetch_add_explicit(\2, \3, memory_order_\4)"),
        (r"(\w+)=(\w+)\.(\w+)", r"int \1 = atomic_load_explicit(\2, memory_order_\3)"),
        (r"fence\.(\w+)", r"atomic_thread_fence(memory_order_\1)"),
    ]
    for pattern, long in short:
        if re.fullmatch(pattern, statement):
            return re.sub(pattern, long, statement)
    raise check.Malformed(statement)


def is_possible(outcome, *threads):
    text = "C known\n"
    for number, thread in enumerate(threads):
        body = " ".join(expand(statement) + ";" for statement in thread.split())
        text += f"P{number} () {{ {body} }}\n"
    return check.Test(text + f"exists ({outcome})").outcome_is_possible()


BOTH_OLD = "0:a=0 /\\ 1:b=0"
NEW_OLD = "1:a=1 /\\ 1:b=0"
READERS = "2:a=1 /\\ 2:b=0 /\\ 3:c=1 /\\ 3:d=0"

# The name, whether the outcome is possible, the outcome, the threads.
KNOWN = [
    ("SB", True, BOTH_OLD, "x=1.release a=y.acquire", "y=1.release b=x.acquire"),
    ("SB, sc", False, BOTH_OLD, "x=1.seq_cst a=y.seq_cst", "y=1.seq_cst b=x.seq_cst"),
    ("SB, fences", False, BOTH_OLD, "x=1.relaxed fence.seq_cst a=y.relaxed",
     "y=1.relaxed fence.seq_cst b=x.relaxed"),
    ("SB, one fence", True, BOTH_OLD, "x=1.relaxed fence.acq_rel a=y.relaxed",
     "y=1.relaxed fence.seq_cst b=x.relaxed"),
    ("MP", False, NEW_OLD, "x=1.relaxed y=1.release", "a=y.acquire b=x.relaxed"),
    ("MP, relaxed", True, NEW_OLD, "x=1.relaxed y=1.relaxed", "a=y.acquire b=x.relaxed"),
    ("MP, fences", False, NEW_OLD, "x=1.relaxed fence.release y=1.relaxed",
     "a=y.relaxed fence.acquire b=x.relaxed"),
    ("MP, through an add", False, "1:c=1 /\\ 2:a=2 /\\ 2:b=0", "x=1.relaxed y=1.release",
     "c=y+1.relaxed", "a=y.acquire b=x.relaxed"),
    ("MP, through a store", True, "1:c=1 /\\ 2:a=2 /\\ 2:b=0", "x=1.relaxed y=1.release",
     "c=y.relaxed y=2.relaxed", "a=y.acquire b=x.relaxed"),
    ("IRIW", True, READERS, "x=1.release", "y=1.release", "a=x.acquire b=y.acquire",
     "c=y.acquire d=x.acquire"),
    ("IRIW, sc", False, READERS, "x=1.seq_cst", "y=1.seq_cst", "a=x.seq_cst b=y.seq_cst",
     "c=y.seq_cst d=x.seq_cst"),
    ("IRIW, fences", False, READERS, "x=1.relaxed", "y=1.relaxed",
     "a=x.relaxed fence.seq_cst b=y.relaxed", "c=y.relaxed fence.seq_cst d=x.relaxed"),
    ("WRC", False, "1:a=1 /\\ 2:b=1 /\\ 2:c=0", "x=1.release", "a=x.acquire y=1.release",
     "b=y.acquire c=x.relaxed"),
    ("RWC", True, "1:a=1 /\\ 1:b=0 /\\ 2:c=0", "x=1.seq_cst", "a=x.acquire b=y.acquire",
     "y=1.seq_cst c=x.seq_cst"),
    ("RWC, sc", False, "1:a=1 /\\ 1:b=0 /\\ 2:c=0", "x=1.seq_cst", "a=x.seq_cst b=y.seq_cst",
     "y=1.seq_cst c=x.seq_cst"),
    ("LB", False, "0:a=1 /\\ 1:b=1", "a=x.relaxed y=1.relaxed", "b=y.relaxed x=1.relaxed"),
    ("CoRR", False, NEW_OLD, "x=1.relaxed", "a=x.relaxed b=x.relaxed"),
    ("Z6.U", True, "1:a=1 /\\ 1:c=3 /\\ 2:b=0", "x=1.seq_cst y=1.release",
     "a=y+1.seq_cst c=y.relaxed", "y=3.seq_cst b=x.seq_cst"),
    ("two adds", False, BOTH_OLD, "a=x+1.relaxed", "b=x+1.relaxed"),
]


def main():
    wrong = [name for name, possible, *test in KNOWN if is_possible(*test) != possible]
    if wrong:
        sys.exit(f"check.py is wrong about {', '.join(wrong)}")
    print(f"right about {len(KNOWN)} tests of the literature")


if __name__ == "__main__":
    main()
