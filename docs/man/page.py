"""The page of a function, or of those that one comment documents, and of a type."""

import re
import textwrap

import mdoc
from header import Unreadable, paragraphs

NAME_LENGTH = 76
AS = re.compile(r"as (forkq_\w+)\.")
VERB = re.compile(r"([A-Z][a-z]+s) ")


class Page:
    """The page of some functions that are documented together, or of a type."""

    def __init__(self, manual, declarations):
        self.manual, self.declarations = manual, declarations
        self.first = declarations[0]
        self.names = [d.name for d in declarations]
        own = set(self.names) | {i for d in declarations if (i := d.initializer)}
        self.writer = mdoc.Writer(own, manual.known, manual.arguments)
        # Each comment, with all that it documents.
        self.comments = []
        for d in declarations:
            if not self.comments or self.comments[-1][0] is not d.comment:
                self.comments.append((d.comment, []))
            self.comments[-1][1].append(d)

    def write(self, types):
        """The page; `types` are those to be shown in it."""
        first = self.first
        out = self.manual.head(self.names, 3, summary(first))
        library = "forkq\\-redis" if first.header.file == "forkq/redis.h" else "forkq"
        out += [".Sh LIBRARY", f"{library} (lib{library}, \\-l{library})"]
        out += [".Sh SYNOPSIS", f".In {self.manual.include(first.header)}"]
        for d in self.declarations:
            out += synopsis(d)
        out.append(".Sh DESCRIPTION")
        for i, (comment, documented) in enumerate(self.comments):
            out += [".Pp"] if i > 0 else []
            out += self.description(comment, documented)
        for d in types:
            out += [f".Ss The type {d.name}", *synopsis(d), ".Pp", *self.about_type(d)]
        out += self.section("RETURN VALUES", "Returns", self.returns)
        out += self.section("BLOCKING", "Blocks", self.blocks)
        out += self.section("THREADS", "Threads", self.threads)
        out += self.section("ERRORS", "Errors", self.errors)
        out += self.section("CALLBACK STATUS", "Status", self.status)
        out += self.section("CALLBACK STATUS", "Callback", self.callback)
        out += self.section("PYTHON", "Python", self.python)
        return out + self.see_also()

    def description(self, comment, documented):
        if documented[0].kind != "function":
            return self.about_type(documented[0])
        text = comment.text
        subject, verb = self.subject(documented), text[0].split(" ", 1)
        if text[0].startswith("The same as"):
            text = ["is the same as" + text[0].removeprefix("The same as"), *text[1:]]
        else:
            text = [f"{verb[0].lower()} {''.join(verb[1:])}", *text[1:]]
        return self.writer.body(comment, text, subject)

    def about_type(self, d):
        out = self.writer.body(d.comment, d.comment.text)
        if d.kind == "callback" and "Returns" in d.comment.parts:
            out += [".Pp", *self.writer.body(d.comment, d.comment.parts["Returns"],
                                             "The function returns")]
        if d.fields:
            out += self.writer.list(d.comment, [(f"`{n}`", t) for n, t in d.fields])
        return out

    def subject(self, documented):
        return documented[0].name + "()" if len(documented) == 1 else "Each of these functions"

    def section(self, title, label, write):
        out = []
        for comment, documented in self.comments:
            # What a callback returns is in its description.
            if label in comment.parts and (documented[0].kind, label) != ("callback", "Returns"):
                out += [".Pp"] if out else []
                out += write(comment, documented)
        if label == "Blocks" and self.first.kind == "function" and never_blocks(self.first.header):
            out = self.text(self.first.comment, f"{self.first.name}() never blocks.")
        return [f".Sh {title}", *out] if out else []

    def text(self, comment, text):
        return self.writer.text(comment, text)

    def returns(self, comment, documented):
        comment, part = self.resolve(comment, "Returns")
        out = self.writer.body(comment, part, f"{self.subject(documented)} returns")
        if "int" in documented[0].type and documented[0].comment.parts["Errors"] != ["none."]:
            out += ["A negative number says what failed: see", ".Sx ERRORS ."]
        return out

    def blocks(self, comment, documented):
        comment, part = self.resolve(comment, "Blocks")
        subject, text = self.subject(documented), part[0]
        if text.startswith("never"):
            part = ["never blocks" + text.removeprefix("never"), *part[1:]]
            return self.writer.body(comment, part, subject)
        if re.match(r"(it|see) ", text):
            return self.plainly(comment, part)
        return self.writer.body(comment, part, f"{subject} blocks")

    def resolve(self, comment, label):
        """What a part says that is as another function's."""
        part = comment.parts[label]
        other = AS.fullmatch(" ".join(part))
        if other and other[1] in self.manual.declarations:
            return self.resolve(self.manual.declarations[other[1]].comment, label)
        return comment, part

    def threads(self, comment, _):
        return self.plainly(comment, comment.parts["Threads"])

    def status(self, comment, _):
        return self.plainly(comment, comment.parts["Status"])

    def plainly(self, comment, lines):
        return self.writer.body(comment, [mdoc.sentence_case(lines[0]), *lines[1:]])

    def callback(self, comment, _):
        return self.writer.body(comment, comment.parts["Callback"], "The status is")

    def python(self, comment, documented):
        part = comment.parts["Python"]
        subject = self.subject(documented)
        if part[0].startswith("none"):
            part = ["has no counterpart" + part[0].removeprefix("none"), *part[1:]]
            return self.writer.body(comment, part, subject)
        of = "these functions" if len(documented) > 1 else subject
        return self.writer.body(comment, part, f"The counterpart of {of} is")

    # ---- Errors, with those that a comment only names ----

    def errors(self, comment, documented):
        part = comment.parts["Errors"]
        subject = self.subject(documented)
        if part == ["none."]:
            return self.text(comment, f"{subject} cannot fail.")
        introduction = intro(part)
        if not introduction:
            out = self.text(comment, f"{subject} fails with:") + self.writer.body(comment, part)
        elif not re.match(r"(the|those|as) |FORKQ_", introduction):
            out = self.plainly(comment, part)
        else:
            text = re.sub(r"^(?:as|those of) (?=forkq_)", "the errors of ", part[0])
            out = self.writer.body(comment, [text, *part[1:]], f"{subject} fails with")
        return out + self.named_errors(comment, introduction, subject, set(self.names))

    def named_errors(self, comment, introduction, subject, seen):
        out = []
        for name in re.findall(r"the (\w+) errors", introduction):
            if name not in seen:
                seen.add(name)
                home, entries = named_list(comment, comment.header, name, self.manual.headers)
                out.append(f".Ss The {name} errors")
                entries[0] = entries[0].replace(f'Functions that list "the {name} errors"', subject)
                entries[0] = re.sub(r'^"The \w+ errors"[^.:]*[.:] ?', "", entries[0])
                out += self.writer.body(home.manual, entries)
        for name in re.findall(r"(?:as|those of) (forkq_\w+)", introduction):
            if name not in seen and name in self.manual.declarations:
                seen.add(name)
                other = self.manual.declarations[name].comment
                part = other.parts["Errors"]
                text = re.sub(r"^as (?=forkq_)", "those of ", part[0])
                out += [f".Ss Errors of {name}()"]
                out += self.writer.body(other, [mdoc.sentence_case(text), *part[1:]])
                out += self.named_errors(other, intro(part), subject, seen)
        return out

    def see_also(self):
        references = self.writer.references
        for d in self.declarations:
            for parameter in d.parameters:
                name = type_of(parameter)
                if name in self.manual.declarations:
                    references.add((name, "3"))
        if self.first.kind != "function":
            references |= {(d.name, "3") for d in self.manual.declarations.values()
                           if self.first.name in map(type_of, d.parameters)}
        references |= {(mdoc.header_name(self.first.header.file), "7"), ("forkq", "7")}
        references |= {(name, "3") for name in self.neighbours()}
        return see_also(references - {(name, "3") for name in self.names})

    def neighbours(self):
        """The functions before and after those of this page."""
        functions = [d.name for d in self.first.header.functions]
        near = set()
        for name in self.names:
            if name in functions:
                i = functions.index(name)
                near |= set(functions[max(i - 1, 0):i + 2])
        return near


def is_complete(d):
    """Whether the comment of a function says all that its page must have."""
    parts = d.comment.parts
    return ("Errors" in parts and ("Returns" in parts or d.type == "void") and
            ("Blocks" in parts or never_blocks(d.header)))


def never_blocks(header):
    return header.chapters.get("Blocking") == ["", "No function blocks.", ""]


def intro(part):
    """The text of a part before its list."""
    first = paragraphs(part)[0] if any(part) else (None, "")
    return first[1] if first[0] == "text" else ""


def named_list(comment, header, name, headers):
    """The text of "the NAME errors": its header, and the lines."""
    elsewhere = re.search(rf"[Tt]he {name} errors are those of (forkq/\w+\.h)",
                          " ".join(header.introduction))
    for other in headers:
        if elsewhere and other.file == elsewhere[1]:
            return named_list(comment, other, name, headers)
    found = []
    for line in header.chapters.get("Common errors", []):
        quoted = re.search(r'"[Tt]he (\w+) errors"', line)
        if quoted and quoted[1] == name:
            found = [line]
        elif quoted and found:
            break
        elif found:
            found.append(line)
    if not found:
        raise Unreadable(comment.path, comment.line, f"where are the {name} errors?")
    return header, found


def type_of(parameter):
    return re.sub(r"^const ", "", parameter).split(" ")[0]


def summary(d):
    """The line of NAME: the first sentence, or what stands before its first stop."""
    text = re.sub(r"`", "", " ".join(paragraphs(d.comment.text)[0][1].split()))
    text = re.split(r"[.:;](?: |$)| \(|, as forkq_", text)[0]
    for stop in (r",? (?:that|which) ", r", "):
        text = re.split(stop, text)[0] if len(text) > NAME_LENGTH else text
    if d.kind == "function" and not text.startswith("The same as"):
        verb = VERB.match(text)
        if not verb:
            raise Unreadable(d.comment.path, d.comment.line,
                             'the comment does not begin with what a function does, as in "Puts"')
        text = base_form(verb[1]) + text[len(verb[1]):]
        text = re.sub(r"\b(and|or) ([a-z]+s)(?= the | its | an? | \*)",
                      lambda also: f"{also[1]} {base_form(also[2])}", text)
    if len(text) > NAME_LENGTH:
        raise Unreadable(d.comment.path, d.comment.line,
                         f"what it is about has more than {NAME_LENGTH} characters: {text}")
    return text if re.match(r"[A-Z]{2}|[A-Z]\w*_", text) else text[0].lower() + text[1:]


def base_form(verb):
    """Of the verb in "puts one object"."""
    if re.search(r"(ss|sh|ch|x|zz)es$", verb):
        return verb[:-2]
    return re.sub(r"ies$", "y", verb) if verb.endswith("ies") else verb[:-1]


def synopsis(d):
    if d.kind == "function":
        arguments = [f".Fa {mdoc.code(p)}" for p in d.parameters or ["void"]]
        return [f".Ft {mdoc.code(d.type.rstrip())}", f".Fo {d.name}", *arguments, ".Fc"]
    tag = d.name.removesuffix("_t")
    if d.kind == "callback":
        line = f"typedef {d.type.rstrip()} (*{d.name})({', '.join(d.parameters)});"
        lines = textwrap.wrap(line, 72, subsequent_indent="    ")
    else:
        lines = [f"typedef {d.kind} {d.tag} {{", *d.body.split("\n"), f"}} {d.name};"]
    if d.initializer:
        lines += ["", f"{d.name} {tag.split('_')[-1]} = {d.initializer};"]
    return [".Bd -literal", *mdoc.literal(lines), ".Ed"]


def see_also(references):
    lines = [f".Xr {name} {section} ," for name, section in
             sorted(references, key=lambda r: (r[1], r[0]))]
    return [".Sh SEE ALSO", *lines[:-1], lines[-1].removesuffix(" ,")]
