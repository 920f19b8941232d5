"""Where the time of a message goes: perf's samples in buckets, and calls a message.

profile.py BENCH DIR [--only PATTERN] [--seconds S]

Runs the contenders of CELLS alone, one after the other, and writes DIR/profile.md, which
report.py puts into the documentation. perf samples all CPUs, so that idle time is
seen, too; of the rest only those that send or receive count. Other work on the machine still
changes who waits for whom: only a profile of a quiet machine tells of that.
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

QUEUE, PIPE = "cpython_queue", "pipe"
CELLS = [
    ("unbounded/1x1/64", ["forkq", "boost", QUEUE, PIPE]),
    ("unbounded/4x1/64", ["forkq", "boost", QUEUE, PIPE]),
    ("unbounded/4x4/64", ["forkq", "boost", QUEUE, PIPE, "zmq"]),
    ("objects, unbounded/1x1/64", ["forkq_object", "cpython_object"]),
    ("objects, bounded/1x1/64", ["forkq_object", "cpython_object"]),
    ("bounded/1x1/1024", ["forkq", QUEUE, "zmq", "packets"]),
    ("bounded/4x4/1024", ["forkq", QUEUE, "zmq"]),
    ("bounded/1x1/4096", ["forkq", "boost", "ring"]),
    ("bounded/1x1/65536", ["forkq", "boost", QUEUE, PIPE]),
    ("bounded/4x4/65536", ["forkq", "boost", PIPE]),
    ("bounded/1x1/1048576", ["forkq", QUEUE, PIPE, "packets"]),
    ("bounded/4x4/1048576", ["forkq", PIPE]),
    ("reserved and borrowed/1x1/65536", ["forkq_borrow", "ring"]),
    ("reserved and borrowed/1x1/1048576", ["forkq_borrow", "ring"]),
    ("batches, unbounded/1x1/64", ["forkq", "forkq_batch", "ring_batch"]),
    ("batches, bounded/1x1/64", ["forkq", "forkq_batch", "ring_batch"]),
    ("batches, bounded/4x4/64", ["forkq", "forkq_batch"]),
    ("simple queue/1x1/64", ["forkq_simple", "cpython_simple", PIPE]),
    ("simple queue/4x4/64", ["forkq_simple", "cpython_simple", PIPE]),
    ("connection/1x1/64", ["forkq_connection", "cpython_pipe", "pipe_framed"]),
    ("connection/1x1/1024", ["forkq_connection", "cpython_pipe", "pipe_framed"]),
    ("connection/1x1/65536", ["forkq_connection", "cpython_pipe", "pipe_framed"]),
    ("connection/1x1/1048576", ["forkq_connection", "cpython_pipe", "pipe_framed"]),
    ("round trip/one CPU/64", ["forkq", QUEUE, PIPE]),
    ("round trip/two CPUs/64", ["forkq", QUEUE, PIPE]),
    ("round trip/anywhere/64", ["forkq", QUEUE, PIPE]),
]

# A sample belongs to the first bucket whose patterns are both found in it: the object it is
# from, and the symbol.
KERNEL, LIBC = r"^\[kernel|^\[vdso|^\[guest", r"/libc\.so"
BUCKETS = [
    ("kernel: copies", KERNEL, r"copy_(to|from)_|copy_page_(to|from)_iter|copy_user|rep_movs|"
                               r"copy_iovec|check_(object|heap|stack)|skb_copy|memcpy"),
    ("kernel: pipe's lock", KERNEL, r"mutex|osq_|vcpu_is_preempted"),
    ("kernel: pages", KERNEL, r"page|folio|memcg|cgroup|charge|alloc|free|rmqueue|pfn|zone|slab|"
                              r"pte|pmd|fault|vma|lru|rstat|filemap|handle_mm|obj_stock|refill|"
                              r"zap_|tlb|list_(add|del)_"),
    ("kernel: sleep, wake, switch", KERNEL,
     r"finish_task|irq|sched|wake|futex|gup_|wait|queue_(?!lock)|pick_|rseq|select_|update_|ttwu|"
     r"poll|timer|load|eevdf|entity|cfs|switch|plist|preempt|spin_|apic|ipi|msr|clock|ktime|tsc|"
     r"get_user|put_user|exit_to_user|cpu|idle|hrtick|account|vtime|pv_|place_|avg"),
    ("kernel: calls, pipe, socket", KERNEL, r"^[^\[]"),  # unless it tells no symbols
    ("calls' wrappers", LIBC, r"^(__GI_)?_*(libc_)?(read|write|readv|writev|poll|ppoll|syscall|"
                              r"send\w*|recv\w*|pthread_sigmask|sigprocmask|epoll_\w+)(@|$)|cancel"),
    ("copies", LIBC, r"mem(cpy|move|set|cmp)"),
    ("locks", LIBC, r"pthread_(mutex|cond|rwlock)|lll_|futex|sem_|new_sem"),
    ("malloc", LIBC, r"malloc|calloc|realloc|_int_|unlink_chunk|^free|cfree|tcache"),
    ("forkq", r"/libforkq", r""),
    ("msgpack", r"/libmsgpack", r""),
    ("peer's own", r"/(libzmq|python|_multiprocessing|_pickle|_struct)|lib-dynload", r""),
    ("peer's own", r"/forkq_bench", r"boost::"),
    ("benchmark", r"/forkq_bench", r""),
]
OTHER = "other"

CALLS = ["read", "write", "readv", "writev", "futex", "poll", "ppoll", "rt_sigprocmask"]
ALL_CALLS, MORE = "raw_syscalls:sys_enter", ["context-switches", "sched:sched_wakeup"]
EVENTS = [f"syscalls:sys_enter_{call}" for call in CALLS] + [ALL_CALLS] + MORE

HZ = 2500
FORK = re.compile(r"PERF_RECORD_FORK\((\d+):\d+\):\((\d+):\d+\)")
SAMPLE = re.compile(r"^\s*.+?\s+(\d+)/\d+\s+[0-9a-f]+ (.*) \((.*)\)$")

NOTES = """\
Microseconds a message of all processes that send or receive, both ways for a round trip
(perf, {hz} samples a second on each of {cpus} CPUs; below 0.5 % is left out). The kernel's
time is told by what it does: copies between user space and pages; the pages themselves, got,
charged, freed; sleeping, waking and switching, with the interrupts that end in them; and
the rest of its calls. "Benchmark" fills and checks messages, and has in it what is inlined
there of a peer. Idle is the time that no CPU had anything to do.
"""
COUNTS = "Of each message, in all processes, counted in a run of its own:"


def perf(*arguments):
    return subprocess.run(["perf", *arguments], capture_output=True, text=True, check=False)


def leave(why):
    print(f"no profile: {why}", file=sys.stderr)
    sys.exit(0)


def countable():
    """The events that can be counted here."""
    return [e for e in EVENTS if perf("stat", "-e", e, "--", "true").returncode == 0]


class Run:
    """A contender on its own."""

    def __init__(self, bench, path, seconds):
        self.bench, self.path = bench, path
        # The greater of two: a busy moment makes a run that is too short.
        self.each = max(self.measure([], f"--seconds={seconds}") for _ in range(2))
        cell, shape, *_ = path.split("/")
        if cell == "round trip":
            self.messages = self.each + self.each // 10 + 10  # those that warm up
        else:
            self.messages = self.each * int(shape.split("x")[0])

    def measure(self, prefix, option):
        """Runs it; returns the messages of each producer."""
        command = [*prefix, self.bench, f"--alone={self.path}", option]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return int(done.stdout.split()[0])

    def sample(self, directory):
        """Samples by (object, symbol) of those that send or receive, and how many idle ones."""
        data, root = f"{directory}/data", f"{directory}/root"
        # The shell tells its process's number, which the benchmark takes over.
        tell = ["sh", "-c", 'echo $$ >"$0"; exec "$@"', root]
        record = ["perf", "record", "-q", "-a", "-e", "cpu-clock", "-F", str(HZ), "-o", data, "--"]
        self.measure([*record, *tell], f"--messages={self.each}")
        fields = ["-F", "comm,pid,tid,ip,sym,dso", "--show-task-events"]
        text = perf("script", "-i", data, *fields).stdout
        return self.sort(text, int(pathlib.Path(root).read_text(encoding="ascii")))

    @staticmethod
    def sort(text, root):
        # The benchmark forks a leader, or a script, which forks those that send and receive.
        depth, ours, idle = {root: 0}, collections.Counter(), 0
        for line in text.splitlines():
            fork, sample = FORK.search(line), SAMPLE.match(line)
            if fork and int(fork[2]) in depth and fork[1] != fork[2]:
                depth.setdefault(int(fork[1]), depth[int(fork[2])] + 1)
            elif sample and sample[1] == "0":
                idle += 1
            elif sample and depth.get(int(sample[1]), 0) >= 2:
                ours[sample[3], sample[2]] += 1
        return ours, idle

    def count(self, events, directory):
        """Events a message, less those of a run of one message."""
        if not events:
            return {}
        totals = []
        for messages in (self.each, 1):
            out = f"{directory}/counts"
            stat = ["perf", "stat", "-x;", "-o", out, "-e", ",".join(events), "--"]
            self.measure(stat, f"--messages={messages}")
            lines = pathlib.Path(out).read_text(encoding="utf-8").splitlines()
            rows = [line.split(";") for line in lines if ";" in line]
            totals.append({row[2]: float(row[0]) for row in rows if row[0][0].isdigit()})
        many, one = totals
        return {event: (many[event] - one.get(event, 0)) / self.messages for event in many}


def bucket_of(place):
    for name, of, symbol in BUCKETS:
        if re.search(of, place[0]) and re.search(symbol, place[1]):
            return name
    return OTHER


def in_buckets(samples):
    buckets, others = collections.Counter(), collections.Counter()
    for place, count in samples.items():
        name = bucket_of(place)
        buckets[name] += count
        if name == OTHER:
            others[place[1]] += count
    return buckets, [symbol for symbol, _ in others.most_common(3)]


def short(value):
    """Two digits that count, more only before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def time_row(run, samples, idle):
    buckets, largest = in_buckets(samples)
    total = sum(buckets.values())

    def time(count):
        return short(count * 1e6 / HZ / run.messages) if count > total / 200 else ""

    row = [time(total), time(idle)] + [time(buckets[name]) for name in bucket_names()]
    other = time(buckets[OTHER])
    return row + [f"{other} ({', '.join(largest)})" if other else ""]


def bucket_names():
    return list(dict.fromkeys(bucket[0] for bucket in BUCKETS))


def count_row(counts):
    known = [counts.get(f"syscalls:sys_enter_{call}") for call in CALLS]
    rest = counts[ALL_CALLS] - sum(n or 0 for n in known) if ALL_CALLS in counts else None
    values = known + [rest] + [counts.get(event) for event in MORE]
    return ["-" if n is None else short(n) if n >= 0.005 else "" for n in values]


def profile(bench, wanted, seconds):
    events, times, counts = countable(), [], []
    missing = [event for event in EVENTS if event not in events]
    if missing:
        print(f"cannot be counted here: {', '.join(missing)}", file=sys.stderr)
    listed = subprocess.run([bench, "--list"], stdout=subprocess.PIPE, text=True, check=True)
    with tempfile.TemporaryDirectory() as directory:
        for path in (f"{cell}/{peer}" for cell, peers in CELLS for peer in peers):
            if not re.search(wanted, path) or path not in listed.stdout.splitlines():
                continue
            print(path, file=sys.stderr)
            try:
                run = Run(bench, path, seconds)
                time = time_row(run, *run.sample(directory))
                count = count_row(run.count(events, directory))
            except subprocess.CalledProcessError:
                print(f"left out, as it failed: {path}", file=sys.stderr)
                continue
            times.append([path, *time])
            counts.append([path, *count])
    head = ["", "CPU", "idle", *bucket_names(), "other (the most of it)"]
    text = NOTES.format(hz=HZ, cpus=os.cpu_count()) + "\n" + table(head, times)
    if events:
        head = ["", *CALLS, "other calls", "switches", "wake-ups"]
        text += f"\n{COUNTS}\n\n" + table(head, counts)
    return text


def check_perf():
    try:
        tried = perf("record", "-q", "-a", "-e", "cpu-clock", "-o", "/dev/null", "--", "true")
    except FileNotFoundError:
        leave("there is no perf")
    if tried.returncode != 0:
        leave(f"perf may not see all CPUs, which root may: {tried.stderr.strip()}")


def main():
    parser = argparse.ArgumentParser(prog="./dev profile")
    parser.add_argument("bench", help=argparse.SUPPRESS)
    parser.add_argument("directory", help=argparse.SUPPRESS, type=pathlib.Path)
    parser.add_argument("--only", default="", help="only names with this in them, a regular expression")
    parser.add_argument("--seconds", default=0.7, type=float, help="how long a run lasts")
    arguments = parser.parse_args()
    check_perf()
    text = profile(arguments.bench, arguments.only, arguments.seconds)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    (arguments.directory / "profile.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
