"""forkq top: its lines, its files, and its screen in a terminal of 80 columns and 24 rows."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time

from stage import PATIENCE, Scene, main, output, output_json, refused, tool, until

HEAD = ("QUEUE        FULL           SIZE UNSENT  PUT/S  GET/S  LOST GETW PUTW PROC STATE")


def once_prints_a_line_for_each_queue():
    with Scene("quiet") as scene:
        lines = output("top", "--once", "--interval", "0.01", scene.pids["actor"]).split("\n")
        assert lines == [HEAD, "quiet        [###       ]      3      0      0      0     0    0"
                               "    0    2 open", ""], lines


def rates_are_those_of_the_queue():
    with Scene("busy") as scene:
        queue, = output_json("top", "--json", "--interval", "0.2", scene.pids["actor"])
        assert queue["puts_per_second"] > 0 and queue["gets_per_second"] > 0, queue
    with Scene("quiet") as scene:
        queue, = output_json("top", "--json", "--interval", "0.01", scene.pids["actor"])
        assert queue["puts_per_second"] == 0, queue


def numbers_go_into_a_file():
    with Scene("quiet") as scene, tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "top.csv")
        for _ in range(2):
            output("top", "--once", "--interval", "0.01", "--csv", path, scene.pids["actor"])
        with open(path, encoding="ascii") as file:
            head, *rows = file.read().splitlines()
        assert len(rows) == 2 and len(set(map(str.count, [head, *rows], ",,,"))) == 1, rows
        row = dict(zip(head.split(","), rows[0].split(",")))
        assert (row["name"], row["size"], row["puts"]) == ("quiet", "3", "3"), row
        refused(1, "No such file", "top", "--once", "--csv", os.path.join(directory, "no", "x"))
        # Without a terminal it records until it is killed.
        recorder = subprocess.Popen([tool, "top", "--interval", "0.01", "--csv", path],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while os.path.getsize(path) < 2000 and time.monotonic() < end:
            time.sleep(0.01)
        recorder.kill()
        recorder.wait()
        assert os.path.getsize(path) >= 2000


def without_a_terminal_it_says_so():
    refused(1, "use --once", "top")


class Terminal:
    """A terminal of 80x24 with the program on it, and what is on its screen: of the sequences of a vt100 it
    knows those that ncurses uses for one."""

    def __init__(self, *arguments, term="vt100", ignored=()):
        self.cells = [[" "] * 80 for _ in range(24)]
        self.row = self.column = 0
        self.top, self.bottom = 0, 23  # of the region that scrolls
        pid, self.fd = pty.fork()
        if pid == 0:
            os.environ["TERM"] = term
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)
            for variable in ("LINES", "COLUMNS"):
                os.environ.pop(variable, None)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            os.execv(tool, [tool, "top", *map(str, arguments)])
        self.pid = pid
        self.left = ""
        self.seen = ""

    def text(self):
        return ["".join(row).rstrip() for row in self.cells]

    def until(self, look):
        end = time.monotonic() + PATIENCE
        while not look(self.text()):
            assert time.monotonic() < end, "\n".join(self.text())
            if select.select([self.fd], [], [], 0.1)[0]:
                self.feed(os.read(self.fd, 65536).decode())
        return self.text()

    def until_seen(self, text):
        """For terminals of which it does not know the sequences."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536).decode()

    def key(self, key):
        os.write(self.fd, key.encode())

    def feed(self, data):
        self.left += data
        self.seen += data
        while self.left:
            match = re.match(r"\x1b\[([?\d;]*)([a-zA-Z])|\x1b[()][0AB]|\x1b[=>78MH]|[^\x1b]", self.left)
            if not match:
                return  # a sequence that has not come to its end
            self.left = self.left[match.end():]
            if match[2]:
                self.control(match[1], match[2])
            elif match[0] == "\x1bM":
                self.up()
            elif match[0][0] != "\x1b":
                self.put(match[0])

    def up(self):
        if self.row == self.top:
            del self.cells[self.bottom]
            self.cells.insert(self.top, [" "] * 80)
        else:
            self.row = max(self.row - 1, 0)

    def down(self):
        if self.row == self.bottom:
            del self.cells[self.top]
            self.cells.insert(self.bottom, [" "] * 80)
        else:
            self.row = min(self.row + 1, 23)

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.down()
        elif char == "\b":
            self.column = max(self.column - 1, 0)
        elif char >= " ":
            self.cells[self.row][min(self.column, 79)] = char
            self.column += 1

    def control(self, given, letter):
        numbers = [int(n or 0) for n in given.split(";")] if "?" not in given else []
        first = numbers[0] if numbers else 0
        if letter == "H":
            self.row = max(first, 1) - 1
            self.column = max(numbers[1] if len(numbers) > 1 else 1, 1) - 1
        elif letter == "J":
            for row in range(self.row if first == 0 else 0, 24):
                for column in range(self.column if row == self.row and first == 0 else 0, 80):
                    self.cells[row][column] = " "
        elif letter == "K":
            columns = range(self.column, 80) if first == 0 else range(self.column + 1)
            for column in columns:
                self.cells[self.row][column] = " "
        elif letter in "ABCD":
            step = max(first, 1)
            self.row += {"A": -step, "B": step}.get(letter, 0)
            self.column += {"C": step, "D": -step}.get(letter, 0)
        elif letter == "r":
            self.top = max(first, 1) - 1
            self.bottom = (numbers[1] if len(numbers) > 1 else 24) - 1
            self.row = self.column = 0
        else:
            assert letter in "mhl", (given, letter)

    def wait(self):
        end = time.monotonic() + PATIENCE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    time.sleep(0.01)


    def echoes(self):
        """Whether the terminal is as it was before the program, which turns that off."""
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)


KEYS = "q quit   sort by: f fullness  n name  p puts  g gets  u unsent"


def the_screen_of_80_by_24():
    with Scene("quiet") as scene:
        terminal = Terminal("--interval", "0.1", scene.pids["actor"])
        screen = terminal.until(lambda text: text[2] != "" and text[23] == KEYS)
        assert screen == ["forkq top: 1 queues, by fullness", HEAD,
                          "quiet        [###       ]      3      0      0      0     0    0    0"
                          "    2 open"] + [""] * 20 + [KEYS], screen
        # What changes is drawn.
        output("put", "quiet", "1", "2")
        terminal.until(lambda text: text[2].startswith("quiet        [#####     ]      5"))
        terminal.key("q")
        assert terminal.wait() == 0


def keys_sort():
    with Scene("named") as scene:
        terminal = Terminal("--interval", "0.1", scene.pids["actor"])

        def names(text):
            return [line.split()[0] for line in text[2:5] if line]
        terminal.until(lambda text: names(text) == ["c", "a", "b"])
        terminal.key("n")
        terminal.until(lambda text: names(text) == ["a", "b", "c"] and "by name" in text[0])
        terminal.key("f")
        terminal.until(lambda text: names(text) == ["c", "a", "b"] and "by fullness" in text[0])
        terminal.key("q")
        assert terminal.wait() == 0


def more_queues_than_rows():
    with Scene("many", "50") as scene:
        terminal = Terminal("--interval", "0.1", scene.pids["actor"])
        screen = terminal.until(lambda text: text[23] == KEYS and text[22] != "")
        assert screen[0].startswith("forkq top: 50 queues")
        assert all(line.startswith("many") for line in screen[2:22]), screen
        terminal.key("q")
        assert terminal.wait() == 0


def no_colour_is_needed():
    with Scene("quiet") as scene:
        terminal = Terminal("--interval", "0.1", scene.pids["actor"], term="xterm-256color")
        terminal.key("q")
        assert terminal.wait() == 0
        assert not re.search(r"\x1b\[(3|4|9)[0-7]", terminal.seen)


def a_signal_leaves_the_terminal_as_it_was():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        terminal = Terminal("--interval", "60")
        terminal.until(lambda text: text[23] == KEYS)
        assert not terminal.echoes()
        os.kill(terminal.pid, number)
        until(terminal.echoes)
        assert terminal.wait() == 1, number


def a_terminal_that_goes_away_ends_it():
    terminal = Terminal("--interval", "0.1", ignored=[signal.SIGHUP])
    terminal.until(lambda text: text[23] == KEYS)
    os.close(terminal.fd)
    until(lambda: os.waitpid(terminal.pid, os.WNOHANG)[0])


def what_is_wrong_is_said_after_the_screen():
    with Scene("quiet") as scene:
        pid = scene.pids["idler"]
        terminal = Terminal("--interval", "0.1", pid, term="xterm-256color")
        terminal.until_seen("quiet")
    # Of a process that has ended and was not waited for, the system may say that it is another user's.
    terminal.until_seen(f"process {pid}")
    assert "\x1b[?1049l" in terminal.seen.split(f"process {pid}", maxsplit=1)[0], terminal.seen
    assert terminal.wait() in (5, 6)


main([once_prints_a_line_for_each_queue, rates_are_those_of_the_queue, numbers_go_into_a_file,
      without_a_terminal_it_says_so, the_screen_of_80_by_24, keys_sort, more_queues_than_rows,
      no_colour_is_needed, a_signal_leaves_the_terminal_as_it_was,
      a_terminal_that_goes_away_ends_it, what_is_wrong_is_said_after_the_screen])
