"""test_programs.py REPORT EXAMPLES: programs in C and in Python share a queue under a name."""
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import forkq
import support

REPORT, EXAMPLES = sys.argv[1:3]


class Names(support.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "queue")

    def report(self, name, value):
        subprocess.run([REPORT, self.path, name, str(value)], check=True, timeout=support.PATIENCE)

    def test_c_reports_and_python_collects(self):
        collect = subprocess.Popen(
            [sys.executable, "-B", os.path.join(EXAMPLES, "collect.py"), self.path, "6"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(collect.kill)  # if something below fails
        for n in range(6):
            self.report(f"report{n}", n - 3)
        said, _ = collect.communicate(timeout=support.PATIENCE)
        self.assertEqual(collect.returncode, 0)
        self.assertEqual(sorted(said.splitlines()), [f"report{n} {n - 3}" for n in range(6)])
        self.assertFalse(os.path.exists(self.path))

    def test_python_serves_and_c_and_python_connect(self):
        queue = forkq.Queue(codec="msgpack")
        queue.serve(self.path)
        with self.assertRaisesRegex(ValueError, "served already"):
            queue.serve(self.path)
        self.report("c", 5)
        self.assertEqual(queue.get(timeout=support.PATIENCE), {"name": "c", "value": 5})
        subprocess.run(
            [
                sys.executable,
                "-B",
                "-c",
                "import forkq, pathlib, sys\n"
                "queue = forkq.Queue.connect(pathlib.Path(sys.argv[1]), 60, codec='msgpack')\n"
                "queue.put(['python'])\n",
                self.path,
            ],
            check=True,
            timeout=support.PATIENCE,
        )
        self.assertEqual(queue.get(timeout=support.PATIENCE), ["python"])
        queue.close()
        self.assertFalse(os.path.exists(self.path))

    def serve_while_locked(self, queue, paths, meanwhile):
        """Threads that serve the queue, each at a path; what each raised. They wait for the lock of the directory,
        while something else is done."""

        def serve(path):
            try:
                queue.serve(path)
            except ValueError as error:
                raised.append(error)

        raised = []
        threads = [threading.Thread(target=serve, args=(path,)) for path in paths]
        directory = os.open(os.path.dirname(self.path), os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        for thread in threads:
            thread.start()
        for thread in threads:
            support.wait_until(lambda: support.sleeps(os.getpid(), thread.native_id), "it waits")
        meanwhile()
        os.close(directory)
        for thread in threads:
            thread.join(support.PATIENCE)
        return raised

    def test_a_close_while_it_begins_to_serve(self):
        queue = forkq.Queue()
        self.serve_while_locked(queue, [self.path], queue.close)
        self.assertTrue(queue.closed)
        self.assertFalse(os.path.exists(self.path))

    def test_two_threads_serve(self):
        queue = forkq.Queue()
        paths = [self.path, self.path + "2"]
        (raised,) = self.serve_while_locked(queue, paths, lambda: None)
        self.assertIn("served already", str(raised))
        self.assertEqual([os.path.exists(path) for path in paths].count(True), 1)

    def test_a_server_that_does_not_answer(self):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(self.path)
            server.listen()
            for timeout in (-1, 0, 0.01, 0.7):
                begin = time.monotonic()
                with self.assertRaises(TimeoutError):
                    forkq.Queue.connect(self.path, timeout)
                self.assertGreaterEqual(time.monotonic() - begin, timeout)

    def test_errors(self):
        for timeout in (None, 1, float("inf")):
            with self.assertRaises(FileNotFoundError):
                forkq.Queue.connect(self.path, timeout)
        queue = forkq.Queue()
        queue.serve(self.path)
        with self.assertRaises(forkq.Error):  # this process has the queue already
            forkq.Queue.connect(self.path, 60)
        other = forkq.Queue()
        with self.assertRaisesRegex(forkq.Error, "in use"):
            other.serve(self.path)
        for wrong in (5, None):
            with self.assertRaises(TypeError):
                queue.serve(wrong)
        del queue
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
