"""What the tests of the program forkq have in common: processes in a scene, the program, and a summary as
Check writes it.

No test sleeps to be right: it asks again until the program says what it expects, for at most PATIENCE.

The program sees the queues of all processes of the user. So the tests run in a PID namespace of their own, with
a /proc of its own, where that is allowed; elsewhere no other program may use forkq meanwhile."""

import json
import os
import subprocess
import sys
import time
import traceback

PATIENCE = 30
tool, actor, root = sys.argv[1:4]

ALONE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]


def can_be_alone():
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def be_alone():
    if os.environ.get("FORKQ_STAGE"):
        return
    os.environ["FORKQ_STAGE"] = "1"
    if can_be_alone():
        os.execvp(ALONE[0], [*ALONE, sys.executable, "-B", *sys.argv])


be_alone()


class Scene:
    """An actor (actor.c) and the processes that it has started: `pids` by their roles. `within`: what starts the
    actor."""

    def __init__(self, name, *arguments, within=()):
        self.name = name
        self.process = subprocess.Popen([*within, actor, name, *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pids = {}
        for line in self.process.stdout:
            if line == "ready\n":
                break
            role, pid = line.split()
            self.pids[role] = int(pid)

    def __enter__(self):
        assert "actor" in self.pids, "the scene did not begin"
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(PATIENCE) == 0


def run(*arguments, text_input="", within=()):
    """Runs forkq: its exit code, output and messages. `within`: what starts it."""
    result = subprocess.run([*within, tool, *map(str, arguments)], input=text_input.encode(),
                            capture_output=True, timeout=PATIENCE, check=False)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def output(*arguments, **more):
    code, out, messages = run(*arguments, **more)
    assert code == 0, (code, out, messages)
    return out


def output_json(*arguments):
    return json.loads(output(*arguments))


def until(look):
    """Calls `look` until it returns something true, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def soon(check):
    """Calls `check` until its assertions hold: a scene may still be on its way there."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.01)


def refused(code, message, *arguments, **more):
    """The program ends with the code, says that, and prints nothing."""
    result = run(*arguments, **more)
    assert result[0] == code and message in result[2] and result[1] == "", result


def main(tests):
    failures = 0
    for test in tests:
        try:
            test()
        except Exception:  # pylint: disable=broad-except
            failures += 1
            print("FAILED:", test.__name__)
            traceback.print_exc()
    percent = 100 * (len(tests) - failures) // len(tests)
    print(f"{percent}%: Checks: {len(tests)}, Failures: {failures}, Errors: 0")
    sys.exit(failures > 0)
