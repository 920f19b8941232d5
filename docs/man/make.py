#!/usr/bin/env python3
"""Makes the manual pages of forkq from its headers, which are the manual.

make.py VERSION TEMPLATE EXAMPLE HEADER... OUTPUT

writes OUTPUT/man3 and OUTPUT/man7: a page for each function or for those that one comment
documents, a page for each type, a page for each header with what holds for all its functions, which
is also the page of each error code in it, and forkq(7) from TEMPLATE, with the program EXAMPLE.
Nothing else is written about a function, so that a page cannot say anything else than the header.

A function whose comment says no more than "The same as NAME", or "as in NAME", is on the page of
NAME. Where a comment has the errors "as NAME" or "the common errors", the page lists them.

A comment that cannot be read, or a function without one, ends it with PATH:LINE. The form of a
comment is in docs/maintaining.md; header.py reads it, page.py makes a page of what it has read,
mdoc.py writes text as mdoc(7).
"""

import os
import pathlib
import re
import sys
import time

import mdoc
from header import Header, Unreadable, paragraphs
from page import Page, is_complete, see_also, summary, type_of

SHARES = re.compile(r"(?:The same as|(?:is|are) as in) (forkq_\w+)")


class Manual:
    """All headers, and which page has which name."""

    def __init__(self, version, headers):
        self.version, self.headers = version, headers
        self.declarations = {d.name: d for h in headers for d in h.declarations}
        self.errors = [error for h in headers for error in h.errors]
        self.known = set(self.declarations)
        self.known |= {mdoc.header_name(h.file) for h in headers if h.declarations}
        self.known |= {"FORKQ_" + name for name, _, _ in self.errors}
        self.known |= {name for h in headers for name, _, _ in h.constants}
        self.known |= {name for d in self.declarations.values() if d.kind == "enum"
                       for name in re.findall(r"FORKQ_\w+", d.body)}
        self.known |= {d.initializer for d in self.declarations.values() if d.initializer}
        self.arguments = {name for d in self.declarations.values() for name in d.arguments()}
        self.pages = [page for h in headers for page in self._pages(h)]
        self.date = date(headers)

    def _pages(self, header):
        """Lists of declarations that have a page in common, in the order of the header."""
        pages = {}
        for d in header.declarations:
            pages.setdefault(self._first(d).name, []).append(d)
        return pages.values()

    def _first(self, d):
        """The declaration whose page has d."""
        for other in d.header.declarations:
            if other.comment is d.comment:
                if d.kind != "function" or is_complete(d):
                    return other
                break
        shared = SHARES.search(" ".join(d.comment.text))
        if not shared or shared[1] not in self.declarations:
            raise Unreadable(d.header.path, d.line,
                             f"{d.name} has not all of Returns, Blocks and Errors, and is not "
                             '"the same as", or "as in" another function')
        return self._first(self.declarations[shared[1]])

    def include(self, header):
        """The header that a program includes."""
        for other in self.headers:
            if not other.declarations and header.file in other.includes:
                return other.file
        return header.file

    def head(self, names, section, about):
        names = [f".Nm {name} ," for name in names]
        return [f".Dd {self.date}",
                # groff says "BSD" in the head of the page, unless it is told otherwise.
                ".ds doc-volume-operating-system forkq",
                f".Dt {names[0].split()[1].upper()} {section}",
                f".Os forkq {self.version}",
                ".Sh NAME", *names[:-1], names[-1].removesuffix(" ,"), f".Nd {about}"]


def header_page(manual, header):
    """What holds for all functions of a header, and which there are."""
    name = mdoc.header_name(header.file)
    writer = mdoc.Writer({name}, manual.known, manual.arguments)
    out = manual.head([name], 7, header.summary)
    out += [".Sh SYNOPSIS", f".In {manual.include(header)}", ".Sh DESCRIPTION"]
    out += writer.body(header.manual, header.introduction) or [mdoc.sentence(header.summary)]
    for title, lines in header.chapters.items():
        out += [f".Ss {title}", *writer.body(header.manual, lines)]
    out += contents(writer, "FUNCTIONS", header.functions)
    out += contents(writer, "TYPES", [d for d in header.declarations if d.kind != "function"])
    out += constants(writer, header)
    out += [".Sh ERROR CODES", *error_codes(header.errors)] if header.errors else []
    if "Python" in header.manual.parts:
        part = header.manual.parts["Python"]
        out += [".Sh PYTHON"]
        out += writer.body(header.manual, [mdoc.sentence_case(part[0]), *part[1:]])
    return out + see_also(writer.references - {(name, "7")} | {("forkq", "7")})


def contents(writer, title, declarations):
    out = [f".Sh {title}", ".Bl -tag -width Ds"]
    for d in declarations:
        out += [f".It Xr {d.name} 3", *writer.text(d.comment, mdoc.sentence(summary(d)))]
    return out + [".El"] if declarations else []


def constants(writer, header):
    out, seen = [], None
    for name, value, comment in header.constants:
        is_about = comment and comment is not seen and not any(
            d.comment is comment for d in header.declarations)
        out += writer.body(comment, comment.text) if is_about else []
        out += [".Bl -tag -width Ds -compact", f".It Dv {name}", mdoc.escape(value), ".El"]
        seen = comment
    return [".Sh CONSTANTS", *out] if out else []


def overview(manual, template, example):
    """forkq(7): the template, with the example, the errors and the pages in their places."""
    writer = mdoc.Writer({"forkq"}, manual.known, set())
    pages = [entry for header in manual.headers if not header.declarations
             for kind, what in paragraphs(header.introduction) if kind == "list"
             for entry in what]
    listed = {term for term, _ in pages}
    for header in manual.headers:
        if header.declarations and header.file not in listed:
            raise Unreadable(header.path, 1, "the list in no other header has this one")
    places = {
        "@head@": manual.head(["forkq"], 7, "a queue that forked processes share"),
        "@pages@": writer.list(manual.headers[0].manual, pages),
        "@example@": mdoc.literal(example.read_text().rstrip().split("\n")),
        "@errors@": error_codes(manual.errors),
    }
    out = []
    for line in template.read_text().rstrip().split("\n"):
        out += places.get(line, [line])
    return out


def error_codes(errors):
    out = [".Bl -tag -width FORKQ_ENOTJOINABLE -compact"]
    for name, value, text in errors:
        out += [f".It Dv FORKQ_{name}", f"{text} (\\{value})"]
    return out + [".El"]


def date(headers):
    """The day of the newest header, so that a page changes only with it."""
    newest = max(int(h.path.stat().st_mtime) for h in headers)
    day = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", newest)))
    return time.strftime(f"%B {day.tm_mday}, %Y", day)


def types_shown(pages):
    """For each page the types that it shows: those of its header that it is the first to take."""
    shown, taken = {}, set()
    for page in pages:
        shown[page.first.name] = []
        for d in page.declarations if page.first.kind == "function" else []:
            for name in map(type_of, d.parameters):
                other = page.manual.declarations.get(name)
                if other and other.header is d.header and name not in taken:
                    taken.add(name)
                    shown[page.first.name].append(other)
    return shown


def save(path, lines):
    path.write_text("\n".join(lines) + "\n")


def main(version, template, example, *files):
    *headers, output = files
    man3, man7 = (pathlib.Path(output) / name for name in ("man3", "man7"))
    for folder in (man3, man7):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
    manual = Manual(version, [Header(path) for path in headers])
    pages = [Page(manual, declarations) for declarations in manual.pages]
    types = types_shown(pages)
    for page in pages:
        save(man3 / f"{page.first.name}.3", page.write(types[page.first.name]))
        also = [d.initializer for d in page.declarations if d.initializer]
        for name in page.names[1:] + also:
            save(man3 / f"{name}.3", [f".so man3/{page.first.name}.3"])
    for header in manual.headers:
        if header.declarations:
            save(man7 / f"{mdoc.header_name(header.file)}.7", header_page(manual, header))
        for name, _, _ in header.errors:
            save(man7 / f"FORKQ_{name}.7", [f".so man7/{mdoc.header_name(header.file)}.7"])
    save(man7 / "forkq.7", overview(manual, pathlib.Path(template), pathlib.Path(example)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Unreadable as unreadable:
        sys.exit(str(unreadable))
