"""test_serve.py FORKQ UNITS: `forkq serve` holds a queue for programs that come and go.

Its clients are `forkq put`, `get` and `drain` with the path. Each function below whose name begins with
"case_" is a test. UNITS is the folder with the example of systemd's units.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

FORKQ = os.path.realpath(sys.argv[1])
UNITS = pathlib.Path(sys.argv[2])
PATIENCE = 60


class Served:
    """A directory, a server in it, and what tells that it is ready: systemd's socket for that."""

    def __init__(self, *options, path="queue", activated=False, ignored=()):
        self.directory = tempfile.mkdtemp(prefix="forkq-")
        self.path = path if path.startswith("@") else f"{self.directory}/{path}"
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(f"{self.directory}/notify")
        self.told.settimeout(PATIENCE)
        self.listener = None
        environment = dict(os.environ, NOTIFY_SOCKET=f"{self.directory}/notify")
        command = [FORKQ, "serve", *options]
        if activated:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(self.path)
            self.listener.listen(10)
            environment["LISTEN_FDS"] = "1"
            command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@" 3<&0', "sh", *command]
        else:
            command.append(self.path)
        command = ["setpriv", "--pdeathsig", "KILL", *command]  # it ends with the test, however that ends

        def set_signals():
            for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(signo, signal.SIG_IGN if signo in ignored else signal.SIG_DFL)

        self.process = subprocess.Popen(
            command, preexec_fn=set_signals, env=environment, stdin=self.listener or subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.told.recv(100) == b"READY=1"

    def ends(self, signo=signal.SIGTERM):
        """What it prints, what it says, and its exit code."""
        self.process.send_signal(signo)
        out, err = self.process.communicate(timeout=PATIENCE)
        return out, err, self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.told.close()
        if self.listener:
            self.listener.close()
        shutil.rmtree(self.directory)


def run(*arguments, code=0, **options):
    done = subprocess.run([FORKQ, *arguments], capture_output=True, text=True,
                          timeout=PATIENCE, **options)
    assert done.returncode == code, (arguments, done)
    return done.stdout


def is_there(served):
    return pathlib.Path(served.path).exists()


def case_it_survives_its_clients():
    with Served() as served:
        for i in range(5):
            run("put", served.path, str(i))
        assert [run("get", served.path) for _ in range(5)] == [f"{i}\n" for i in range(5)]
        assert served.ends() == ("", "", 0)
        assert not is_there(served)
        assert served.told.recv(100) == b"STOPPING=1"


def case_an_abstract_name_is_a_path():
    with Served(path=f"@forkq-test-{os.getpid()}") as served:
        run("put", served.path, "7")
        assert run("get", served.path) == "7\n"
        assert served.ends()[2] == 0


def case_looking_takes_its_path():
    with Served("--name", "jobs") as served, Served() as other:
        run("put", served.path, "1", "2")
        run("put", other.path, "3")
        queue, = json.loads(run("ls", "--json", served.path))
        assert (queue["name"], queue["size"], queue["processes"]) == ("jobs", 2, 1), queue
        assert run("ls", served.path).splitlines()[1].split()[:3] == [str(queue["inode"]), "jobs", "2"]
        shown = json.loads(run("show", "--json", served.path))
        assert shown["inode"] == queue["inode"], shown
        assert [process["pid"] for process in shown["processes"]] == [served.process.pid], shown
        assert (run("peek", served.path), run("peek", other.path)) == ("1\n2\n", "3\n")
        assert run("drain", served.path) == "1\n2\n"
        path = served.path
        assert served.ends()[2] == 0
        for command in ("ls", "show", "peek"):
            run(command, path, code=5)


def case_it_has_room_for_so_many():
    with Served("--maxsize", "2") as served:
        run("put", served.path, "1", "2")
        run("put", "--timeout", "0", served.path, "3", code=3)


def case_it_says_what_is_left():
    with Served("--drain", "0.2") as served:
        run("put", served.path, "1", "2", "3")
        assert served.ends() == ("", "forkq: 3 items were left\n", 3)
        assert not is_there(served)
    with Served("--drain", "0.2", "--json") as served:
        run("put", served.path, "1", "2", "3")
        out, err, code = served.ends(signal.SIGINT)
        assert (json.loads(out), err, code) == ({"left": 3, "drained": False}, "", 3)


def case_clients_get_what_is_left():
    with Served("--drain", "60") as served:
        run("put", served.path, "1", "2")
        served.process.send_signal(signal.SIGTERM)
        assert served.told.recv(100) == b"STOPPING=1"
        assert run("get", served.path) == "1\n"
        run("put", served.path, "3", code=4)
        assert run("get", served.path) == "2\n"
        assert served.process.communicate(timeout=PATIENCE) == ("", "")
        assert served.process.returncode == 0


def case_a_second_signal_ends_the_drain():
    with Served("--drain", "600") as served:
        run("put", served.path, "1")
        served.process.send_signal(signal.SIGTERM)
        assert served.told.recv(100) == b"STOPPING=1"
        assert served.ends() == ("", "forkq: 1 items were left\n", 3)


def case_a_signal_that_it_was_started_to_ignore_does_not_end_it():
    with Served(ignored=(signal.SIGINT, signal.SIGHUP)) as served:
        run("put", served.path, "1")
        served.process.send_signal(signal.SIGHUP)
        served.process.send_signal(signal.SIGINT)
        run("put", served.path, "2")
        assert run("drain", served.path) == "1\n2\n"
        assert served.ends() == ("", "", 0)


def case_those_who_wait_are_told_of_the_end():
    with Served() as served:
        with subprocess.Popen([FORKQ, "get", "--count", "2", served.path],
                              stdout=subprocess.PIPE, text=True) as getter:
            run("put", served.path, "1")
            assert getter.stdout.readline() == "1\n"
            assert served.ends() == ("", "", 0)
            assert getter.wait(PATIENCE) == 4


def case_its_death_leaves_clients_working_with_each_other():
    with Served() as served:
        putter = subprocess.Popen([FORKQ, "put", "--lines", served.path],
                                  stdin=subprocess.PIPE, text=True)
        putter.stdin.write('"connected"\n')
        putter.stdin.flush()
        getter = subprocess.Popen([FORKQ, "get", "--count", "3", served.path],
                                  stdout=subprocess.PIPE, text=True)
        assert getter.stdout.readline() == '"connected"\n'
        served.process.kill()
        served.process.wait()
        putter.stdin.write("1\n2\n")
        putter.stdin.close()
        assert getter.communicate(timeout=PATIENCE)[0] == "1\n2\n"
        assert putter.wait(PATIENCE) == 0 and getter.returncode == 0
        # The socket is the dead server's. A new server replaces it.
        assert is_there(served)
        run("put", served.path, "1", code=5)


def case_a_path_that_is_in_use_is_refused():
    with Served() as served:
        done = subprocess.run([FORKQ, "serve", served.path], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        assert done.returncode == 1 and "a server has the name" in done.stderr, done
        run("put", served.path, "1")


def case_a_path_that_is_too_long_is_refused():
    done = subprocess.run([FORKQ, "serve", "/tmp/" + 103 * "x"], capture_output=True,
                          text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1 and "more than 107 bytes" in done.stderr, done


def case_systemd_passes_a_socket():
    with Served(activated=True) as served:
        run("put", served.path, "8")
        assert run("get", served.path) == "8\n"
        assert served.ends() == ("", "", 0)
        assert is_there(served)


def case_without_a_path_or_a_socket_it_does_not_begin():
    run("serve", code=2)
    run("serve", code=2, env=dict(os.environ, LISTEN_FDS="1", LISTEN_PID="1"))
    run("serve", "a", "b", code=2)
    run("serve", "--group", "no such group", "/tmp/x", code=2)


def case_the_units_are_valid():
    if shutil.which("systemd-analyze") is None:
        return
    with tempfile.TemporaryDirectory() as directory:
        for unit in UNITS.glob("jobs.*"):
            text = unit.read_text().replace("/usr/bin/forkq", FORKQ)
            (pathlib.Path(directory) / unit.name).write_text(text)
        units = [str(unit) for unit in pathlib.Path(directory).iterdir()]
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units],
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the directory goes away
    failed, cases = 0, [c for n, c in globals().items() if n.startswith("case_")]
    for case in cases:
        try:
            case()
        except (AssertionError, subprocess.TimeoutExpired, TimeoutError) as error:
            failed += 1
            print(f"{case.__name__}: {error!r}")
    print(f"{len(cases) - failed} of {len(cases)} cases")
    sys.exit(failed != 0)


main()
