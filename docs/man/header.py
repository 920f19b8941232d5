"""Reads a public header: its declarations, and the comments, which are the manual.

A header consists of blocks with an empty line between them. A block is a comment, or a
comment and what it documents, or a declaration without a comment. The first block is the
header's own manual. docs/maintaining.md has the form of the comments.
"""

import pathlib
import re
import textwrap

# The parts of a comment that begin with a label at the start of a line.
NAME = "(?:Returns|Blocks|Threads|Errors|Status|Callback|Python)"
LABEL = re.compile(rf"({NAME}(?:, {NAME})*):(?: |$)")
LOOKS_LIKE_LABEL = re.compile(r"[A-Z][a-z]+(?:, [A-Z][a-z]+)*:(?: |$)")
# "TERM  what it means", "- what", and "1. what", in a list. Three columns are a table instead.
TABLE = re.compile(r"\S  +\S.*\S  +\S")
ENTRY = re.compile(r"(\S+(?: \S+)*)  +(\S+(?: \S+)*)|(-|[1-9]\.) +(\S.*)")
FUNCTION = re.compile(
    r"(?:FORKQ_API|static inline)\s+(?:FORKQ_MUST_CHECK\s+)?(?P<type>[\w\s]+?[\s*]+)"
    r"(?P<name>forkq_\w+)\((?P<parameters>[^()]*)\)\s*[;{]")
CALLBACK = re.compile(
    r"typedef (?P<type>[\w ]+?[ *]*)\(\*(?P<name>forkq_\w+)\)\((?P<parameters>[^()]*)\);")
RECORD = re.compile(r"(?:typedef )?(struct|enum) (?P<tag>forkq_\w+) \{(?P<body>.*?)\n\}"
                    r"(?: (?P<name>\w+))?;", re.DOTALL)
FIELD = re.compile(r"/\*(?P<before>.*?)\*/|(?P<code>[^\n;/]+;)(?: */\*(?P<after>.*?)\*/)?",
                   re.DOTALL)
DEFINE = re.compile(r"#define (FORKQ_\w+) +(?:\\\n *)?(.+)")


class Unreadable(Exception):
    """What a maintainer has to mend, and where: PATH:LINE."""

    def __init__(self, path, line, what):
        super().__init__(f"{path}:{line}: {what}")


class Comment:
    """The manual of some declarations: what they do, and a part for each label."""

    def __init__(self, header, line, lines):
        self.header, self.path, self.line = header, header.path, line
        self.text, self.parts = [], {}
        part, after_empty = self.text, False
        for number, content in enumerate(lines, line):
            label = LABEL.match(content)
            if label:
                part = []
                names = label[1].split(", ")
                for name in names:
                    if name in self.parts:
                        raise Unreadable(self.path, number, f"{name} is there twice")
                    # Of "Returns, Blocks, Errors: as NAME, and:" the list belongs to the errors.
                    alone = [content[label.end():].replace(", and:", ".")]
                    self.parts[name] = part if name == names[-1] else alone
                content = content[label.end():]
            elif LOOKS_LIKE_LABEL.match(content) and self.parts:
                raise Unreadable(self.path, number, f"no label of a manual: {content}")
            elif after_empty and content and not content.startswith(" "):
                part = self.text
            part.append(content if part is self.text else content.removeprefix("  "))
            after_empty = not content
        self.text = strip(self.text)
        self.parts = {name: strip(part) for name, part in self.parts.items()}


class Declaration:
    """A function, a callback's type, or a struct or enum; with all that its page needs."""

    def __init__(self, header, line, kind, name, comment):
        self.header, self.line, self.kind = header, line, kind
        self.name, self.comment = name, comment
        self.type, self.parameters = "", []  # of a function or a callback
        self.tag, self.body, self.fields = "", "", []  # of a struct or an enum
        self.initializer = None  # its INIT macro

    def arguments(self):
        """The names of the parameters, or of all fields."""
        declared = "; ".join(self.parameters) + ";" + self.body
        return re.findall(r"(\w+)(?:\[\w*\])?;", declared)


class Header:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        # As a program includes it.
        self.file = re.sub(r".*/include/", "", f"/{self.path}")
        self.declarations, self.constants, self.errors = [], [], []
        self.manual, self.summary, self.introduction, self.chapters = None, "", [], {}
        text = self.path.read_text()
        self.includes = re.findall(r"^#include <(forkq/\w+\.h)>", text, re.MULTILINE)
        for line, block in blocks(text):
            self._read(line, block)
        self._expect_all(text)

    @property
    def functions(self):
        return [d for d in self.declarations if d.kind == "function"]

    def _read(self, line, block):
        comment, code = split(self, line, block)
        if comment and "#ifndef" in code.split("\n")[0]:
            self._manual(comment)
            return
        if comment and comment.text == ["private"]:
            return
        self._constants(comment, code)
        at = line + block.count("\n") - code.count("\n")
        for match in FUNCTION.finditer(code):
            self._function("function", match, comment, at)
        for match in CALLBACK.finditer(code):
            self._function("callback", match, comment, at)
        match = RECORD.search(code)
        if match and (comment or match[1] == "struct"):
            self._record(match, comment, at)

    def _manual(self, comment):
        """Of " * Results": an empty line, the title, an empty line, indented text."""
        self.manual, lines = comment, comment.text
        end = lines.index("") if "" in lines else len(lines)
        first = " ".join(lines[:end]).split(": ", 1)[1]
        self.summary, more = re.match(r"(.*?)(?:[.:;](?: |$)|$)(.*)", first).groups()
        part = self.introduction
        part.append(more)
        for i, content in enumerate(lines[end:], end):
            if is_title(lines, i):
                part = self.chapters.setdefault(content, [])
            elif part is not self.introduction and content and not content.startswith("  "):
                raise Unreadable(self.path, comment.line, f"not indented in a chapter: {content}")
            else:
                part.append(content if part is self.introduction else content[2:])

    def _function(self, kind, match, comment, at):
        line = at + match.string[:match.start()].count("\n")
        name = match["name"]
        if not comment:
            raise Unreadable(self.path, line, f"{name} has no comment")
        declaration = Declaration(self, line, kind, name, comment)
        declaration.type = " ".join(match["type"].split())
        parameters = " ".join(match["parameters"].split())
        declaration.parameters = [] if parameters == "void" else parameters.split(", ")
        self.declarations.append(declaration)

    def _record(self, match, comment, at):
        line = at + match.string[:match.start()].count("\n")
        name = match["name"] or match["tag"] + "_t"
        if not comment:
            raise Unreadable(self.path, line, f"{name} has no comment")
        declaration = Declaration(self, line, match[1], name, comment)
        declaration.tag = match["tag"]
        public = match["body"].split("  /* private */")[0]
        declaration.body = without_comments(public)
        if public != match["body"]:
            declaration.body += "\n  /* and private fields */"
        declaration.fields = fields(public)
        self.declarations.append(declaration)

    def _constants(self, comment, code):
        self.errors += re.findall(r'XX\((\w+), (-\d+), "(.*?)"\)', code)
        for name, value in DEFINE.findall(code):
            if name.endswith("_INIT"):
                self._initializer(name)
            elif not value.startswith("__attribute__"):
                self.constants.append((name, value.split(" /*")[0], comment))

    def _initializer(self, name):
        wanted = name.removesuffix("_INIT").lower()
        for declaration in self.declarations:
            if declaration.name == wanted + "_t":
                declaration.initializer = name

    def _expect_all(self, text):
        """Whatever says that it is public must have been understood."""
        names = {d.name for d in self.declarations}
        for match in re.finditer(r"^(?:FORKQ_API|static inline)\b[^;{]*", text, re.MULTILINE):
            name = re.search(r"(\w+)\s*\(", match[0])
            if not name or name[1] not in names:
                line = text[:match.start()].count("\n") + 1
                raise Unreadable(self.path, line, "a declaration in no known form")


def blocks(text):
    """Each block with the number of its first line."""
    block, first, in_comment = [], 1, False
    for number, line in enumerate(text.split("\n") + [""], 1):
        if not block:
            first = number
        if line or in_comment:
            block.append(line)
        elif block:
            yield first, "\n".join(block)
            block = []
        in_comment = (in_comment or "/*" in line) and "*/" not in line.rsplit("/*", 1)[-1]


def split(header, line, block):
    """The comment of a block, if it begins with one, and the code after it."""
    if not block.startswith("/*"):
        return None, block
    text, code = block.split("*/", 1)
    lines = [re.sub(r"^(/\*| \*)( |$)", "", content).rstrip() for content in text.split("\n")]
    return Comment(header, line, lines), code.lstrip("\n")


def strip(lines):
    """Without empty lines at the ends."""
    return "\n".join(lines).strip("\n").split("\n") if any(lines) else []


def without_comments(body):
    """The body of a struct with its fields only."""
    body = re.sub(r"^ */\*.*?\*/\n", "", body, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r" */\*.*?\*/", "", body, flags=re.DOTALL).strip("\n").rstrip()


def is_title(lines, i):
    return (lines[i] != "" and not lines[i].startswith(" ") and lines[i - 1] == "" and
            lines[i + 1:i + 2] == [""] and lines[i + 2].startswith("  "))


def fields(body):
    """The fields of a struct that have a comment, before them or in their line."""
    found, comment = [], None
    body = re.sub(r"^ */\* read-only \*/\n", "", body, flags=re.MULTILINE)
    for match in FIELD.finditer(body):
        if match["before"]:
            comment = match["before"]
            continue
        name = re.search(r"(?:\(\*)?(\w+)(?:\[\w+\])?(?:\)\(.*\))?;$", match["code"])
        about = match["after"] or comment
        if name and about:
            found.append((name[1], " ".join(re.sub(r"\n *\*", " ", about).split())))
        comment = None
    return found


def paragraphs(lines):
    """What the lines of a comment consist of: ("text", TEXT), ("code", LINES), or
    ("list", [(TERM, TEXT)]), where the term may be "-" or a number."""
    found, entry_indent = [], None
    for content in lines + [""]:
        indent = len(content) - len(content.lstrip())
        content = content.strip()
        kind = found[-1][0] if found else None
        entry = ENTRY.fullmatch(content)
        if not content:
            if kind == "code":
                found[-1][1].append("")
            else:
                found.append((None, None))
        elif kind == "list" and indent > entry_indent:
            term, text = found[-1][1][-1]
            found[-1][1][-1] = (term, f"{text} {content}")
        elif entry and kind != "code" and not TABLE.search(content):
            if kind != "list":
                found.append(("list", []))
            entry_indent = indent
            found[-1][1].append((entry[1] or entry[3], entry[2] or entry[4]))
        elif (indent >= 2 and kind != "text" or TABLE.search(content) or
              kind == "code" and found[-1][1][-1]):
            if kind != "code":
                found.append(("code", []))
            found[-1][1].append(" " * indent + content)
        elif kind == "text":
            found[-1] = ("text", f"{found[-1][1]} {content}")
        else:
            found.append(("text", content))
    return [(kind, dedent(what) if kind == "code" else what) for kind, what in found if kind]


def dedent(lines):
    return textwrap.dedent("\n".join(strip(lines))).split("\n")
