#!/usr/bin/env python3
"""test_python.py PAGE INCLUDE COMPILER...: docs/python.md has Python that parses and C that compiles.

In a table with the head "| Python | C |" each row is a function of its own, in which the block of C
above the tables is known.
"""
import ast
import re
import subprocess
import sys
import tempfile

HEAD = "| Python | C |"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-c", "-o", "/dev/null"]


def code(cell):
    """The code of a cell: a span for each line."""
    spans = re.findall(r"`([^`]*)`", cell)
    assert cell.strip() == "<br>".join(f"`{span}`" for span in spans) != "", cell
    return "\n".join(spans)


def rows(page):
    """Line number, Python and C of each row."""
    inside = False
    for number, line in enumerate(page.splitlines(), 1):
        inside = line == HEAD or inside and line.startswith("|")
        if inside and line not in (HEAD, "|---|---|"):
            _, python, c, _ = line.split("|")
            yield number, code(python), code(c)


def program(path, page):
    names = re.search(r"^```c\n(.*?)^```$", page, re.M | re.S).group(1)
    yield names
    for number, _, c in rows(page):
        yield f'#line {number} "{path}"\nvoid line_{number}(void) {{ {c} }}\n'


def msgpack_flags():
    for name in ("msgpack-c", "msgpack"):
        found = subprocess.run(["pkg-config", "--cflags", name], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.split()
    raise SystemExit("no msgpack-c")


def main():
    path, include, *compiler = sys.argv[1:]
    with open(path) as file:
        page = file.read()
    assert len(list(rows(page))) > 40
    for number, python, _ in rows(page):
        ast.parse(python, f"{path}:{number}")
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write("".join(program(path, page)))
        source.flush()
        subprocess.run(
            [*compiler, *WARNINGS, f"-I{include}", *msgpack_flags(), source.name], check=True
        )


main()
