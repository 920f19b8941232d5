#!/usr/bin/env python3
"""Checks litmus tests against the memory model of C11: check.py TEST.litmus...

A test is a few threads in herd7's C format, of loads, stores, read-modify-writes and fences in a row,
without branches, and an outcome that must be impossible. Its mistakes each give one statement another
order. With each of them the outcome must be possible: so the orders in the test are needed.

The model is RC11 (Lahav, Vafeiadis, Kang, Hur, Dreyer: Repairing Sequential Consistency in C/C++11,
2017), with the release sequences of C++20, which are shorter. All executions are made and judged: each
load reads each store of its location, and the stores of a location are in each order.
"""

import itertools
import re
import sys
from collections import namedtuple

Event = namedtuple("Event", "number thread kind location value register order line")

ORDERS = {"relaxed": set(), "acquire": {"acquire"}, "release": {"release"},
          "acq_rel": {"acquire", "release"}, "seq_cst": {"acquire", "release", "sc"}}
WORD = r"(\w+)"
ORDER = r"memory_order_(\w+)"
ASSIGN = rf"int {WORD} = "
STATEMENTS = [
    ("write", rf"atomic_store_explicit\({WORD}, (\d+), {ORDER}\)", "location value order"),
    ("read", rf"{ASSIGN}atomic_load_explicit\({WORD}, {ORDER}\)", "register location order"),
    ("swap", rf"{ASSIGN}atomic_exchange_explicit\({WORD}, (\d+), {ORDER}\)",
     "register location value order"),
    ("add", rf"{ASSIGN}atomic_fetch_add_explicit\({WORD}, (\d+), {ORDER}\)",
     "register location value order"),
    ("fence", rf"atomic_thread_fence\({ORDER}\)", "order"),
]


# ---- reading a test ------------------------------------------------------------------------------

class Malformed(Exception):
    pass


def statement(text, thread, line):
    for kind, pattern, names in STATEMENTS:
        match = re.fullmatch(pattern, text)
        if match:
            part = dict(zip(names.split(), match.groups()))
            return Event(None, thread, kind, part.get("location"), int(part.get("value", 0)),
                         part.get("register"), ORDERS[part["order"]], line)
    raise Malformed(f"not a statement of a litmus test: {text}")


def parse(text):
    """The events of a test, in the order of their threads, and its outcome."""
    text = re.sub(r"\(\*.*?\*\)", "", text, flags=re.S)
    events = []
    for thread, body in re.findall(r"P(\d+)\s*\([^)]*\)\s*{(.*?)}", text, flags=re.S):
        for line, part in enumerate(body.split(";")):
            if part.strip():
                events.append(statement(part.strip(), int(thread), line))
    outcome = re.search(r"exists\s*\((.*)\)\s*$", text, flags=re.S)
    if not events or not outcome:
        raise Malformed("threads and an outcome are needed")
    wanted = re.findall(r"(\d+):(\w+)=(\d+)", outcome.group(1))
    if " /\\ ".join(f"{t}:{r}={v}" for t, r, v in wanted) != " ".join(outcome.group(1).split()):
        raise Malformed(f"not an outcome: {outcome.group(1)}")
    wanted = {(int(t), r): int(v) for t, r, v in wanted}
    if not set(wanted) <= {(e.thread, e.register) for e in events}:
        raise Malformed("a register of the outcome is not read")
    first = [Event(None, -1, "write", location, 0, None, set(), 0)
             for location in sorted({e.location for e in events if e.location})]
    return [e._replace(number=n) for n, e in enumerate(first + events)], wanted


# ---- relations: sets of pairs of numbers ---------------------------------------------------------

def then(*relations):
    result = relations[0]
    for relation in relations[1:]:
        after = {}
        for a, b in relation:
            after.setdefault(a, []).append(b)
        result = {(a, c) for a, b in result for c in after.get(b, ())}
    return result


def closure(relation):
    result = set(relation)
    while True:
        more = result | then(result, relation)
        if more == result:
            return result
        result = more


def cyclic(relation):
    return any(a == b for a, b in closure(relation))


# ---- the model -----------------------------------------------------------------------------------

class Test:
    def __init__(self, text):
        self.events, self.wanted = parse(text)
        self.reads = [e for e in self.events if e.kind in ("read", "swap", "add")]
        self.writes = [e for e in self.events if e.kind in ("write", "swap", "add")]
        self.same = {(e.number, e.number) for e in self.events}
        self.before = {(a.number, b.number) for a in self.events for b in self.events
                       if a.number < b.number and a.thread in (-1, b.thread) and b.thread != -1}

    def those(self, condition):
        """The identity on the events with this property."""
        return {(e.number, e.number) for e in self.events if condition(e)}

    def at_one_place(self, relation, yes=True):
        return {(a, b) for a, b in relation
                if (self.events[a].location == self.events[b].location
                    and self.events[a].location is not None) == yes}

    def values(self, reads_from):
        """What each event reads; None: a value would come from itself."""
        read = {}

        def written(number, seen):
            e = self.events[number]
            return e.value + (value(number, seen) if e.kind == "add" else 0)

        def value(number, seen):
            if number in seen:
                raise RecursionError
            if number not in read:
                read[number] = written(reads_from[number], seen | {number})
            return read[number]

        try:
            for e in self.reads:
                value(e.number, frozenset())
        except RecursionError:
            return None
        return read

    def is_wanted(self, reads_from):
        read = self.values(reads_from)
        return read is not None and all(
            self.wanted.get((e.thread, e.register), read[e.number]) == read[e.number]
            for e in self.reads)

    def happens_before(self, rf):
        before, events = self.before, self.events
        fences = self.those(lambda e: e.kind == "fence")
        swaps = self.those(lambda e: e.kind in ("swap", "add"))
        release = self.those(lambda e: "release" in e.order)
        acquire = self.those(lambda e: "acquire" in e.order)
        sequence = closure(then(rf, swaps)) | self.those(lambda e: e in self.writes)
        sequence = then(self.those(lambda e: e in self.writes), sequence)
        begins = release | then(release, fences, before)
        ends = acquire | then(before, fences, acquire)
        return closure(before | then(begins, sequence, rf, ends))

    def is_possible(self, rf, mo):
        """Whether an execution is consistent: what reads what, and the order of each place's stores."""
        before, same = self.before, self.same
        rb = {(a, b) for a, b in then({(b, a) for a, b in rf}, mo) if a != b}
        hb = self.happens_before(rf)
        eco = closure(rf | mo | rb)
        if cyclic(before | rf) or any(a == b for a, b in hb | then(hb, eco)):
            return False
        if any(a == b for a, b in then(rb, mo)):  # a store between the two sides of a swap
            return False
        sc = self.those(lambda e: "sc" in e.order)
        fence = self.those(lambda e: "sc" in e.order and e.kind == "fence")
        apart = self.at_one_place(before, False)
        scb = before | then(apart, hb, apart) | self.at_one_place(hb) | mo | rb
        left = sc | then(fence, hb)
        right = sc | then(hb, fence)
        psc = then(left, scb, right) | then(fence, hb | then(hb, eco, hb), fence)
        return not cyclic(psc)

    def outcome_is_possible(self):
        places = {}
        for w in self.writes:
            places.setdefault(w.location, []).append(w.number)
        sources = [[n for n in places[r.location] if n != r.number] for r in self.reads]
        orders = [[(first, *rest) for rest in itertools.permutations(others)]
                  for first, *others in places.values()]
        for choice in itertools.product(*sources):
            reads_from = {r.number: n for r, n in zip(self.reads, choice)}
            if not self.is_wanted(reads_from):
                continue
            rf = {(n, r) for r, n in reads_from.items()}
            for lines in itertools.product(*orders):
                mo = {pair for line in lines for pair in itertools.combinations(line, 2)}
                if self.is_possible(rf, mo):
                    return True
        return False


# ---- a file --------------------------------------------------------------------------------------

def mistakes(text):
    """mistake: P1 2 ORDER: NAME: the name, and the text with another order in the second statement of P1."""
    for thread, number, order, name in re.findall(r"mistake: (P\d+) (\d+) (\w+): (.*)", text):
        begin = text.index(f"\n{thread} (")
        statements = text[begin:].split(";")
        at = int(number) - 1
        damaged = re.sub(r"memory_order_\w+", f"memory_order_{order}", statements[at])
        if damaged == statements[at]:
            raise Malformed(f"no mistake: {name}")
        statements[at] = damaged
        yield name, text[:begin] + ";".join(statements)


def check(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    name = re.match(r"C (\S+)", text).group(1)
    if Test(text).outcome_is_possible():
        raise Malformed("the outcome is possible")
    print(f"impossible: {name}", flush=True)
    found = 0
    for mistake, damaged in mistakes(text):
        if not Test(damaged).outcome_is_possible():
            raise Malformed(f"a mistake is not found: {mistake}")
        print(f"found: {name}: {mistake}", flush=True)
        found += 1
    if found == 0:
        raise Malformed("a test without a mistake shows nothing")


def main():
    for path in sys.argv[1:]:
        try:
            check(path)
        except Malformed as e:
            sys.exit(f"{path}: {e}")


if __name__ == "__main__":
    main()
