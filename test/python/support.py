"""What the tests of the Python module have in common.

A test that hangs ends: it prints where each thread is, and fails. Processes are forked unless a test says
otherwise, and a test waits for each.
"""
import contextlib
import faulthandler
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import unittest

fork = multiprocessing.get_context("fork")
PATIENCE = int(os.environ.get("PATIENCE", "60"))  # seconds: for what happens at once

faulthandler.dump_traceback_later(4 * PATIENCE, exit=True)


def descriptors():
    """The descriptors of this process, with what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.001)


def sleeps(pid, thread=None):
    """Whether a thread of the process, by default the main one, is asleep in a system call."""
    try:
        with open(f"/proc/{pid}/task/{thread or pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"
    except FileNotFoundError:
        return False


def at_other_end(queue, codec, code):
    """Runs code in another program, in which `queue` is the queue with that codec. Returns what it prints."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        queue._send(ours.fileno())
        begin = (
            "import forkq\n"
            "queue = forkq.Queue.__new__(forkq.Queue)\n"
            f"queue._receive({theirs.fileno()}, {codec!r})\n"
        )
        return subprocess.run(
            [sys.executable, "-B", "-c", begin + code],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout


class TestCase(unittest.TestCase):
    def start(self, target, *args, context=fork):
        """A process that is joined, and must have ended well."""
        process = context.Process(target=target, args=args)
        process.start()
        self.addCleanup(self.end, process)
        return process

    def end(self, process, exitcode=0):
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
        self.assertEqual(process.exitcode, exitcode)

    def run_child(self, function, exitcode=0):
        """Runs a function in a child that is forked without multiprocessing, and ends as os._exit does."""
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = function() or 0
            finally:
                os._exit(code)
        end = time.monotonic() + PATIENCE
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self.fail("the child did not end")
            time.sleep(0.001)
        self.assertEqual(os.waitstatus_to_exitcode(status), exitcode)


def main():
    unittest.main()
