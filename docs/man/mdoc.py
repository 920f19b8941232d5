"""Writes what a comment says in mdoc(7): which word is a function, a constant, an argument."""

import re

from header import Unreadable, paragraphs

# What mdoc would take for a macro, in an argument.
MACRO = re.compile(r"[A-Z%][a-z0-9][a-z]?$")
CLOSING = ".,:;)?!"
WORD = re.compile(r"(?P<open>[(\"]*)(?P<core>`[^`]*`|.*?)(?P<close>[.,:;)?!\"]*)$")
TITLE = r'"[A-Za-z][A-Za-z ,]*"'


def escape(text):
    return text.replace("\\", "\\e")


def literal(lines):
    """Lines of a program in a display."""
    return [re.sub(r"^(?=[.'])", r"\\&", escape(line)) for line in lines]


def code(text):
    """An argument of a macro, as it stands in a program."""
    text = escape(text).replace("-", "\\-").replace('"', "\\(dq")
    if MACRO.match(text) or all(c in ".,:;()[]?!|" for c in text):
        text = "\\&" + text
    return f'"{text}"' if " " in text else text


class Writer:
    """Writes the text of one page. `own` are the names that the page is about, `known` all names
    that have a page, and all constants; `arguments` all names of arguments and fields."""

    def __init__(self, own, known, arguments):
        self.own, self.known, self.arguments = own, known, arguments
        self.references = set()  # (NAME, SECTION) of other pages

    def body(self, comment, lines, first=None):
        """Paragraphs, lists and code; `first` begins the first sentence."""
        out = []
        for i, (kind, what) in enumerate(paragraphs(lines)):
            if kind == "text":
                out += [".Pp"] if i > 0 or out else []
                out += self.text(comment, what if i > 0 or not first else f"{first} {what}")
            elif kind == "code":
                out += [".Bd -literal -offset indent", *literal(what), ".Ed"]
            else:
                out += self.list(comment, what)
        return out

    def list(self, comment, entries):
        kind = {"-": "-bullet", "1.": "-enum"}.get(entries[0][0], "-tag -width Ds")
        out = [f".Bl {kind}"]
        for term, text in entries:
            out.append(self.term(comment, term) if "tag" in kind else ".It")
            out += self.text(comment, sentence(text))
        return out + [".El"]

    def term(self, comment, term):
        """What an entry of a list is about: an error, a field."""
        if term.startswith("`"):
            return f".It Fa {code(term.strip('`'))}"
        if re.fullmatch(r"forkq/\w+\.h", term):
            return f".It Xr {self.header_page(term)} 7"
        constants = re.split(r"(?:,| or) ", term)
        if all(re.fullmatch(r"-?[A-Z][A-Z_0-9]+", c) for c in constants):
            for constant in constants:
                self.check_constant(comment, constant)
            return ".It Dv " + " , ".join(map(code, constants))
        return f".It {code(term)}"

    def check_constant(self, comment, constant):
        if constant.startswith("FORKQ_") and constant not in self.known:
            raise Unreadable(comment.path, comment.line, f"there is no {constant}")

    def header_page(self, file):
        name = header_name(file)
        page = name if name in self.known else "forkq"
        self.references.add((page, "7"))
        return page

    def text(self, comment, text):
        """Lines of mdoc, a sentence on a line of its own."""
        text = self.place_titles(comment, text)
        text = re.sub(r"`[^`]*`", lambda span: span[0].replace(" ", "\0"), text)
        out = [[]]
        for word in text.split():
            macro = self.macro(comment, word.replace("\0", " "))
            if macro:
                out += [[macro], []]
            else:
                out[-1].append(plain(word.replace("\0", " ")))
            if re.search(r"[.?!][)\"]*$", word):
                out.append([])
        return [line for words in out if words for line in wrap(words)]

    def place_titles(self, comment, text):
        """Says in which page a chapter is, unless it is this page."""
        home = comment.header
        if header_name(home.file) in self.own:
            return text

        def place(match):
            names = re.findall(r'"(.*?)"', match[1])
            known = all(name in home.chapters for name in names)
            return f"{match[1]} in {home.file}" if known else match[0]

        return re.sub(rf'({TITLE}(?:(?:, | and | or ){TITLE})*)(?! in forkq/)(?: above| below)?',
                      place, text)

    def macro(self, comment, word):
        match = WORD.match(word)
        core, close = match["core"], match["close"]
        if core.count("(") > core.count(")") and close.startswith(")"):
            core, close = core + ")", close[1:]
        if core.endswith("'s") and len(core) > 2 and not core.startswith("`"):
            core, close = core[:-2], "'s" + close
        macro = self.core(comment, core)
        if not macro:
            return None
        # An opening bracket and closing punctuation are words of their own for mdoc.
        lead = match["open"]
        if lead == "(":
            name, _, rest = macro.partition(" ")
            macro = f"{name} ( {rest}"
        elif lead:
            macro = f"Pf {quotes(lead, True)} {macro}"
        if close and all(c in CLOSING for c in close):
            macro += "".join(f" {c}" for c in close)
        elif close:
            macro += f" Ns {quotes(close, False)}"
        return "." + macro

    def core(self, comment, core):
        """The macro for a word, if it needs one."""
        name = core.strip("`")
        quoted = core.startswith("`")
        manual = re.fullmatch(r"([\w-]+)\((\d)\)", core)
        function = re.fullmatch(r"(forkq_\w+)(?:\(\))?", name)
        if manual:
            self.references.add((manual[1], manual[2]))
            return f"Xr {manual[1]} {manual[2]}"
        if re.fullmatch(r"forkq/\w+\.h", core):
            return f"Xr {self.header_page(core)} 7"
        if re.fullmatch(r"[A-Z_]+=\w+", core):
            return f"Ev {code(core)}"
        if function:
            return self.name(comment, function[1])
        if re.fullmatch(r"-?[A-Z][A-Z0-9]*_[A-Z0-9_]+|-E[A-Z0-9]+|SIG[A-Z]+|NULL", name):
            self.check_constant(comment, name)
            return f"Dv {code(name)}"
        if re.fullmatch(r"\*?\w+(->\w+(\.\w+)?|\[\d\])", name) or re.fullmatch(r"\*[a-z]\w*", name):
            return f"Fa {code(name)}"
        if quoted and re.fullmatch(r"[a-z]\w*", name) or "_" in name and name in self.arguments:
            return f"Fa {code(name)}"
        return f"Ql {code(name)}" if quoted else None

    def name(self, comment, name):
        if name in self.own:
            return f"Vt {name}" if name.endswith("_t") else f"Fn {name}"
        if name.endswith("_t") and name not in self.known:
            return f"Vt {name}"
        if name not in self.known:
            raise Unreadable(comment.path, comment.line, f"there is no {name}")
        self.references.add((name, "3"))
        return f"Vt {name}" if name.endswith("_t") else f"Xr {name} 3"


def header_name(file):
    """The page of a header: forkq_queue of forkq/queue.h."""
    return file.removesuffix(".h").replace("/", "_")


def sentence_case(text):
    """With a capital letter, unless it begins with a name."""
    return text[0].upper() + text[1:] if re.match(r"(?!forkq )[a-z]+[ ,.;:]", text) else text


def sentence(text):
    """A sentence from what stands beside a term."""
    text = sentence_case(text)
    return text if re.search(r"[.?!:][)\"]*$", text) else text + "."


def quotes(text, opening):
    return text.replace('"', "\\(lq" if opening else "\\(rq")


def plain(word):
    """A word of the text."""
    if word == '"':
        return "\\(rq"
    match = re.fullmatch(r'([(]*)(")?(.*?)(")?([.,:;)]*)', word)
    word = (match[1] + ("\\(lq" if match[2] else "") + escape(match[3]) +
            ("\\(rq" if match[4] else "") + match[5])
    word = re.sub(r"^-(?=\d)", r"\\-", word)
    return "\\%" + word if re.search(r"\w[._(]\w|\w\(\)", word) else word


def wrap(words):
    """Lines of at most 80 characters, of which none looks like a request."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) > 79:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
    return [re.sub(r"^(?=[.'])(?!\.[A-Z])", r"\\&", part) for part in lines + [line]]
