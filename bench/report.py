"""Plots, tables and the documentation's figures from the results of the benchmark.

report.py DIR                draws plots of DIR/results.json into DIR
report.py --docs DOCS DIR    draws them into DOCS/benchmarks, copies the results there, and
                             writes DOCS/benchmarks/results.md; between their markers, a
                             summary into DOCS/benchmarks.md, and targets into
                             DOCS/performance.md, with DIR/profile.md if there is one
"""

import json
import pathlib
import shutil
import subprocess
import sys

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SHAPES = ["1x1", "4x1", "1x4", "4x4"]
PLACES = ["one CPU", "two CPUs", "anywhere"]
FROM_64 = [64, 1024, 65536, 1048576]
P50, P99, P999 = 0.5, 0.99, 0.999

# Section, shapes, bytes, contender, what it is divided by, at least; None: the first
# contender of the cell. Of a round trip the ratio is time by time, and at most.
OTHERS = ["4x1", "1x4", "4x4"]
TOUCHED = "all bytes written and read"
BORROWED = "reserved and borrowed"
TARGETS = [
    ("unbounded", ["1x1"], [64], "boost", 2.8),
    ("unbounded", OTHERS, [64], "boost", 4),
    ("unbounded", SHAPES, [64], "cpython_queue", 60),
    ("unbounded", SHAPES, [64], "pipe", 3),
    ("unbounded", ["1x1"], [64], "zmq", 2.5),
    ("unbounded", ["4x4"], [64], "zmq", 1.5),
    ("bounded", ["1x1"], [64], "boost", 1),
    ("bounded", OTHERS, [64], "boost", 2.2),
    ("bounded", SHAPES, [64], "cpython_queue", 35),
    ("bounded", ["1x1"], [256], "boost", 0.9),
    ("bounded", ["4x4"], [256], "boost", 2),
    ("bounded", ["1x1"], [1024], "boost", 1.1),
    ("bounded", ["4x1"], [1024], "boost", 1.9),
    ("bounded", ["1x4"], [1024], "boost", 1.5),
    ("bounded", ["4x4"], [1024], "boost", 1.8),
    ("bounded", SHAPES, [1024], "cpython_queue", 22),
    ("bounded", ["1x1"], [4096], "boost", 0.9),
    ("bounded", ["4x4"], [4096], "boost", 2),
    ("bounded", ["1x1"], [65536], "boost", 0.8),
    ("bounded", ["4x1"], [65536], "boost", 1.5),
    ("bounded", ["1x4", "4x4"], [65536], "boost", 1.1),
    ("bounded", SHAPES, [65536], "cpython_queue", 3),
    ("bounded", ["1x1"], [1048576], "boost", 4),
    ("bounded", ["4x1"], [1048576], "boost", 2.5),
    ("bounded", ["1x4"], [1048576], "boost", 2),
    ("bounded", ["4x4"], [1048576], "boost", 1.8),
    ("bounded", SHAPES, [1048576], "cpython_queue", 5),
    (TOUCHED, ["1x1"], [65536], "boost", 1.6),
    (TOUCHED, ["4x4"], [65536], "boost", 1.3),
    (TOUCHED, ["1x1"], [1048576], "boost", 2.2),
    (TOUCHED, ["4x4"], [1048576], "boost", 2.6),
    (BORROWED, ["1x1", "4x4"], [65536], "ring", 3),
    (BORROWED, ["1x1", "4x4"], [1048576], "ring", 20),
    ("objects, unbounded", SHAPES, [64], "cpython_object", 24),
    ("objects, bounded", SHAPES, [64], "cpython_object", 20),
    ("simple queue", ["1x1", "4x4"], FROM_64, "cpython_simple", 5),
    # Larger ones leave in several calls, the pipe's in one.
    ("simple queue", ["1x1", "4x4"], [64, 1024], "pipe", 0.95),
    ("connection", ["1x1"], FROM_64, "pipe_framed", 0.95),
]
BATCH_SECTIONS = ["batches, unbounded", "batches, bounded"]
BY_SINGLE_CALLS, BY_RING_BATCHES = 3, 0.8
# Where, bytes, peer, at most.
TRIP_TARGETS = [
    ("one CPU", 64, "pipe", 1.3),
    ("one CPU", 64, "cpython_queue", 0.2),
    ("two CPUs", 64, "pipe", 1.1),
    ("two CPUs", 64, "cpython_queue", 0.75),
    ("anywhere", 64, "pipe", 1.3),
    ("anywhere", 64, "cpython_queue", 0.2),
    ("one CPU", 65536, "boost", 0.65),
    ("two CPUs", 65536, "boost", 1.1),
]
SPIN_TARGET = 0.25
MANY_TARGET = 0.7
# Bytes, peer, at most.
CPU_TARGETS = [(64, "unbounded", "pipe", 0.25), (65536, "bounded", "boost", 1.8)]
MEMORY_TARGETS = [
    ("message_bytes", "a queued message of 64 B, beyond these", 16, "B"),
    ("queue_kib", "an idle queue", 256, "KiB"),
    ("process_kib", "a process that has put, shared", 4, "KiB"),
]

# The summary: what is measured, section, shape or place, bytes; and the peers in its columns.
SUMMARY = [
    ("64 B, 1 producer, 1 consumer", "bounded", "1x1", 64),
    ("64 B, 4 producers, 4 consumers", "bounded", "4x4", 64),
    ("1 KiB, 1 producer, 1 consumer", "bounded", "1x1", 1024),
    ("1 KiB, 4 producers, 4 consumers", "bounded", "4x4", 1024),
    ("4 KiB, 1 producer, 1 consumer", "bounded", "1x1", 4096),
    ("4 KiB, 4 producers, 4 consumers", "bounded", "4x4", 4096),
    ("64 KiB, 1 producer, 1 consumer", "bounded", "1x1", 65536),
    ("64 KiB, 4 producers, 4 consumers", "bounded", "4x4", 65536),
    ("1 MiB, 1 producer, 1 consumer", "bounded", "1x1", 1048576),
    ("1 MiB, 4 producers, 4 consumers", "bounded", "4x4", 1048576),
    ("round trip of 64 B, one CPU", "round trip", "one CPU", 64),
    ("round trip of 64 B, two CPUs", "round trip", "two CPUs", 64),
]
SUMMARY_PEERS = ["cpython_queue", "boost", "zmq", "mq", "pipe"]

PLOTTED = ["forkq", *SUMMARY_PEERS]

MORE_COLOURS = ["#8c564b", "#e377c2", "#bcbd22", "#7f7f7f"]


class Results:
    def __init__(self, path):
        self.all = json.loads(path.read_text(encoding="utf-8"))
        self.cells = self.all["cells"]

    def sections(self):
        return list(dict.fromkeys(cell["section"] for cell in self.cells))

    def cells_of(self, section, shape=None):
        return [
            cell
            for cell in self.cells
            if cell["section"] == section and shape in (None, cell["shape"])
        ]

    def find(self, section, shape, size, peer):
        """The contender, or None."""
        for cell in self.cells_of(section, shape):
            for contender in cell["contenders"]:
                if cell["bytes"] == size and contender["peer"] == peer and contender["ok"]:
                    return contender
        return None

    def quantile(self, contender, at):
        return contender["quantiles"][self.all["quantile_at"].index(at)]


def short(value):
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def size_name(size):
    if size >= 1 << 20:
        return f"{size >> 20} MiB"
    return f"{size >> 10} KiB" if size >= 1 << 10 else f"{size} B"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def machine(results):
    facts = [f"- {name}: {value}" for name, value in results.all["machine"].items()]
    facts.append(f"- rounds: {results.all['rounds']}")
    facts += [f"- not installed, left out: {name}" for name in results.all["missing"]]
    return "\n".join(facts) + "\n"


def labels_of(cells):
    return {c["peer"]: c["label"] for cell in cells for c in cell["contenders"]}


def rates(results, section, shape):
    """A table: contenders by sizes."""
    cells = results.cells_of(section, shape)
    sizes = sorted({cell["bytes"] for cell in cells})
    rows = []
    for peer, label in labels_of(cells).items():
        row = [label]
        for size in sizes:
            found = results.find(section, shape, size, peer)
            row.append(f"{short(found['rate'][0])} ({found['ratio'][0]:.3g})" if found else "")
        rows.append(row)
    head = "the dict" if section.startswith("objects") else None
    return table([shape] + [head or size_name(size) for size in sizes], rows)


def round_trips(results, size):
    rows = []
    for place in PLACES:
        cells = [c for c in results.cells_of("round trip", place) if c["bytes"] == size]
        for cell in cells:
            for contender in (c for c in cell["contenders"] if c["ok"]):
                times = [f"{results.quantile(contender, at):.3g}" for at in (P50, P99, P999)]
                rows.append([f"{place}: {contender['label']}", *times])
    return table([f"{size_name(size)}, microseconds", "p50", "p99", "p99.9"], rows)


def cost_table(results):
    """CPU time and memory of the cells with 64 bytes, one to one."""
    rows = []
    for section in ("unbounded", "bounded"):
        for cell in results.cells_of(section, "1x1"):
            for contender in cell["contenders"]:
                if cell["bytes"] == 64 and contender["ok"]:
                    rows.append(
                        [
                            f"{section}: {contender['label']}",
                            f"{contender['cpu_us']:.3g}",
                            f"{contender['peak_mib']:.3g}",
                        ]
                    )
    return table(["64 B, 1x1", "CPU us a message", "peak MiB, all processes"], rows)


def verdict(value, target, at_most):
    return "yes" if (value <= target if at_most else value >= target) else "**no**"


def batch_rows(results):
    """By the first contender of the cell, which is single calls; and by the ring's batches."""
    for section in BATCH_SECTIONS:
        for shape in SHAPES:
            mine = results.find(section, shape, 64, "forkq_batch")
            ring = results.find(section, shape, 64, "ring_batch")
            if not mine:
                continue
            value = 1 / mine["ratio"][0]
            name = f"{section}, {shape}: as fast as single calls"
            yield name, f">= {BY_SINGLE_CALLS}", value, verdict(value, BY_SINGLE_CALLS, False)
            if ring:
                value = ring["ratio"][0] / mine["ratio"][0]
                name = f"{section}, {shape}: as fast as {ring['label']}"
                yield name, f">= {BY_RING_BATCHES}", value, verdict(value, BY_RING_BATCHES, False)


def many_rows(results):
    for size in (64, 65536):
        many = results.find("many processes", "16x16", size, "forkq")
        few = results.find("bounded", "1x1", size, "forkq")
        if many and few:
            value = many["rate"][0] / few["rate"][0]
            name = f"16x16 processes, {size_name(size)}: as fast as 1x1"
            yield name, f">= {MANY_TARGET}", value, verdict(value, MANY_TARGET, False)


def target_rows(results):
    for section, shapes, sizes, peer, least in TARGETS:
        for size in sizes:
            for shape in shapes:
                found = results.find(section, shape, size, peer)
                if found:
                    name = f"{section}, {size_name(size)}, {shape}: as fast as {found['label']}"
                    value = found["ratio"][0]
                    yield name, f">= {least}", value, verdict(value, least, False)
    yield from batch_rows(results)
    for place, size, peer, most in TRIP_TARGETS:
        found = results.find("round trip", place, size, peer)
        if found:
            value = 1 / found["ratio"][0]
            name = f"round trip, {size_name(size)}, {place}: time by that of {found['label']}"
            yield name, f"<= {most}", value, verdict(value, most, True)
    spinning = results.find("round trip", "two CPUs", 64, "forkq_spin")
    pipe = results.find("round trip", "two CPUs", 64, "pipe")
    if spinning and pipe:
        value = results.quantile(spinning, 0.5) / results.quantile(pipe, 0.5)
        name = "round trip, 64 B, two CPUs, with spin_us 50: time by that of raw pipe"
        yield name, f"<= {SPIN_TARGET}", value, verdict(value, SPIN_TARGET, True)
    yield from many_rows(results)
    for size, section, peer, most in CPU_TARGETS:
        mine = results.find(section, "1x1", size, "forkq")
        other = results.find(section, "1x1", size, peer)
        if mine and other:
            value = mine["cpu_us"] / other["cpu_us"]
            name = f"CPU per message, {size_name(size)}, 1x1: by that of {other['label']}"
            yield name, f"<= {most}", value, verdict(value, most, True)
    memory = results.all.get("memory", {})
    for key, name, most, unit in MEMORY_TARGETS:
        if key in memory:
            value = memory[key]
            yield f"memory, {unit}: {name}", f"<= {most}", value, verdict(value, most, True)


def target_table(results):
    rows = [
        [name, target, f"{value:.3g}", met] for name, target, value, met in target_rows(results)
    ]
    return table(["", "target", "measured", "met"], rows)


# ---- plots -------------------------------------------------------------------------------


def gnuplot(path, size, commands):
    head = f"set terminal svg size {size} font 'sans,12' background 'white' noenhanced\nset output '{path}'\n"
    head += "set key outside right top\nset grid\n"
    for number, colour in enumerate(MORE_COLOURS, 9):  # gnuplot has 8, and begins anew
        head += f"set linetype {number} linecolor rgb '{colour}'\n"
    subprocess.run(["gnuplot"], input=head + commands, text=True, check=True)


def series(columns):
    """Inline data and the plot command for {label: [(x, y)...]}."""
    blocks, plots = "", []
    for number, (label, points) in enumerate(columns.items()):
        blocks += f"$s{number} << EOD\n" + "".join(f"{x} {y}\n" for x, y in points) + "EOD\n"
        width = 3 if label.startswith("forkq") else 1.5
        plots.append(
            f"$s{number} using 1:2 with linespoints pt 7 ps 0.5 lw {width} title '{label}'"
        )
    return blocks + "plot " + ", ".join(plots) + "\n"


def plot_by_size(results, shape, path):
    columns = {}
    for cell in results.cells_of("bounded", shape):
        shown = (c for c in cell["contenders"] if c["ok"] and c["peer"] in PLOTTED)
        for contender in shown:
            points = columns.setdefault(contender["label"], [])
            points.append((cell["bytes"], contender["rate"][0]))
    if any(len(points) > 1 for points in columns.values()):
        gnuplot(
            path,
            "900,520",
            f"set title 'Messages a second by size, bounded, {shape}'\n"
            "set logscale xy\nset format y '%.0s%c'\nset xlabel 'bytes'\n"
            "set xtics ('64 B' 64, '256 B' 256, '1 KiB' 1024, '4 KiB' 4096, "
            "'64 KiB' 65536, '1 MiB' 1048576)\n"
            + series(columns),
        )


def plot_by_shape(results, path):
    cells = [c for c in results.cells_of("bounded") if c["bytes"] == 64]
    shapes = [cell["shape"] for cell in cells]
    if not cells:
        return
    data = "$d << EOD\n"
    labels = labels_of(cells)
    for cell in cells:
        found = {c["peer"]: c["rate"][0] for c in cell["contenders"] if c["ok"]}
        data += cell["shape"] + "".join(f" {found.get(peer, '?')}" for peer in labels) + "\n"
    data += "EOD\n"
    plots = [
        f"$d using {i + 2}:xtic(1) title '{label}'" for i, label in enumerate(labels.values())
    ]
    gnuplot(
        path,
        "900,520",
        f"set title 'Messages of 64 bytes a second, bounded, {', '.join(shapes)}'\n"
        "set style data histogram\nset style histogram clustered gap 2\n"
        "set style fill solid 0.8 border -1\nset datafile missing '?'\n"
        "set logscale y\nset format y '%.0s%c'\nset xlabel 'producers x consumers'\n"
        + data
        + "plot "
        + ", ".join(plots)
        + "\n",
    )


def plot_round_trips(results, place, path):
    columns = {}
    for cell in results.cells_of("round trip", place):
        for contender in (c for c in cell["contenders"] if c["ok"] and cell["bytes"] == 64):
            pairs = zip(contender["quantiles"], results.all["quantile_at"])
            # 90 %, 99 %, 99.9 % at equal distances, as is usual for latencies.
            points = [(1 / (1 - at), time) for time, at in pairs if at < 1]
            columns[contender["label"]] = points
    if columns:
        gnuplot(
            path,
            "900,520",
            f"set title 'Round trips of 64 bytes, {place}'\n"
            "set logscale xy\nset ylabel 'microseconds'\nset xlabel 'of all round trips'\n"
            "set xtics ('50 %%' 2, '90 %%' 10, '99 %%' 100, '99.9 %%' 1000, '99.99 %%' 10000)\n"
            + series(columns),
        )


def draw(results, directory):
    """Returns the plots' names."""
    if shutil.which("gnuplot") is None:
        print("no gnuplot, no plots", file=sys.stderr)
        return []
    for shape in SHAPES:
        plot_by_size(results, shape, directory / f"size-{shape}.svg")
    plot_by_shape(results, directory / "processes.svg")
    for place in PLACES:
        plot_round_trips(results, place, directory / f"round-trip-{place.replace(' ', '-')}.svg")
    return sorted(path.name for path in directory.glob("*.svg"))


# ---- the documents -----------------------------------------------------------------------

RESULTS_HEAD = """# The last full run

`./dev bench` measures this, `./dev report` writes this page. [How fast](../benchmarks.md) says
what is measured, and [Speed](../performance.md), with which settings. All figures are in
[results.csv](results.csv).

In the tables of rates stands the median of the rounds. In brackets stands how many times as fast
forkq was: below 1 the other one was faster. The first row of each table is forkq. `4x1` is 4
producers and 1 consumer. Compare figures of one run only: absolute ones belong to the machine and
the day.
"""


def summary_speed(section, contender, results):
    if section == "round trip":
        return f"{results.quantile(contender, P50):.3g} us"
    return f"{short(contender['rate'][0])}/s"


def summary(results):
    """The user's table: forkq's own figure, then how many times as fast it was."""
    labels = labels_of(results.cells)
    peers = [peer for peer in SUMMARY_PEERS if peer in labels]
    rows = []
    for name, section, place, size in SUMMARY:
        mine = results.find(section, place, size, "forkq")
        if mine:
            others = [results.find(section, place, size, peer) for peer in peers]
            ratios = [f"{other['ratio'][0]:.2g}" if other else "" for other in others]
            rows.append([name, summary_speed(section, mine, results), *ratios])
    return table(["", "forkq", *(f"times {labels[peer]}" for peer in peers)], rows)


def all_figures(results, plots):
    parts = [RESULTS_HEAD, "## The machine\n", machine(results)]
    for section in results.sections():
        if section == "round trip":
            continue
        parts.append(f"## {section[0].upper()}{section[1:]}: messages a second\n")
        parts += [rates(results, section, s) for s in [*SHAPES, "16x16"] if results.cells_of(section, s)]
    sizes = sorted({cell["bytes"] for cell in results.cells_of("round trip")})
    parts.append("## Round trips\n")
    parts += [round_trips(results, size) for size in sizes]
    parts += ["## CPU time and memory\n", cost_table(results)]
    parts.append("## Plots\n")
    parts += [f"![{name[:-4]}]({name})\n" for name in plots]
    return "\n".join(parts)


def targets_and_profile(results, profile):
    parts = ["### Targets\n", target_table(results)]
    if profile.exists():
        parts += ["### Where the time goes\n", profile.read_text(encoding="utf-8")]
    return "\n".join(parts)


def write_between_markers(page, body):
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page} has no place for figures: {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}", encoding="utf-8")


def write_docs(results, source, docs):
    directory = docs / "benchmarks"
    directory.mkdir(exist_ok=True)
    plots = draw(results, directory)
    shutil.copy(source / "results.csv", directory)
    (directory / "results.md").write_text(all_figures(results, plots), encoding="utf-8")
    write_between_markers(docs / "benchmarks.md", summary(results))
    write_between_markers(
        docs / "performance.md", targets_and_profile(results, source / "profile.md")
    )


def main():
    arguments = sys.argv[1:]
    source = pathlib.Path(arguments[-1])
    results = Results(source / "results.json")
    if arguments[0] == "--docs":
        if results.all["quick"] or len(results.sections()) < 9:
            sys.exit("the last run was not a full one: ./dev bench")
        write_docs(results, source, pathlib.Path(arguments[1]))
        pages = ("benchmarks.md", "performance.md", "benchmarks/")
        print("written: " + ", ".join(f"{arguments[1]}/{page}" for page in pages))
        return
    draw(results, source)
    print(f"results and plots are in {source}")


if __name__ == "__main__":
    main()
