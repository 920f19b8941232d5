"""What becomes of objects that were put when a process ends, or forgets the queue."""
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from unittest import mock

import forkq
import support
from forkq import exits

MANY = 20000
TEXT = "x" * 100  # so many of these are more than the pipe holds


def put_many(queue, count):
    for n in range(count):
        queue.put(f"{n} {TEXT}")


def put_quietly(queue):
    """Says nothing of the signal that ends it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    put_many(queue, MANY)


class Ends(support.TestCase):
    def test_a_child_sends_all(self):
        queue = forkq.Queue()
        process = self.start(put_many, queue, MANY)
        for n in range(MANY):
            self.assertEqual(queue.get(timeout=support.PATIENCE), f"{n} {TEXT}")
        process.join()

    def test_a_child_that_was_forked_without_multiprocessing(self):
        ended = self.run_program(
            "import forkq, os, sys\n"
            "queue = forkq.Queue()\n"
            "queue.put('first')\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            f"    for n in range({MANY}): queue.put('x' * 100)\n"
            "    sys.exit(0)\n"
            f"got = [queue.get(timeout=60) for n in range({MANY} + 1)]\n"
            f"assert sorted(got) == ['first'] + ['x' * 100] * {MANY}\n"
            "assert os.waitpid(pid, 0)[1] == 0\n"
        )
        self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (0, "", ""))

    def test_a_child_that_forgets_the_queue(self):
        def child(box):
            queue = box.pop()
            put_many(queue, MANY)

        queue = forkq.Queue()
        process = self.start(child, [queue])
        for n in range(MANY):
            self.assertEqual(queue.get(timeout=support.PATIENCE), f"{n} {TEXT}")
        process.join()

    def test_a_first_put_that_a_signal_ended(self):
        def child():
            with mock.patch.object(exits.util, "Finalize", side_effect=KeyboardInterrupt):
                with self.assertRaises(KeyboardInterrupt):
                    queue.put("first")
            put_many(queue, MANY)

        queue = forkq.Queue()
        process = self.start(child)
        for n in range(MANY):
            self.assertEqual(queue.get(timeout=support.PATIENCE), f"{n} {TEXT}")
        process.join()

    def test_cancel_join_thread(self):
        def child():
            queue.cancel_join_thread()
            put_many(queue, MANY)

        queue = forkq.Queue()
        process = self.start(child)
        process.join(support.PATIENCE)
        self.assertEqual(process.exitcode, 0)
        self.assertLess(queue.qsize(), MANY)

    def test_ctrl_c_at_the_end(self):
        """A child that waits until all is sent, which nobody gets."""
        queue = forkq.Queue()
        process = support.fork.Process(target=put_quietly, args=(queue,))
        process.start()
        support.wait_until(lambda: queue.qsize() == MANY, "all are put")
        support.wait_until(lambda: support.sleeps(process.pid), "the child waits")
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        process.join(support.PATIENCE)
        self.assertIsNotNone(process.exitcode)

    def run_program(self, code, **options):
        return subprocess.run(
            [sys.executable, "-B", "-X", "dev", "-W", "error", "-c", code],
            timeout=support.PATIENCE,
            capture_output=True,
            text=True,
            **options,
        )

    def test_programs_that_end(self):
        """None hangs, and none says anything."""
        for code in [
            "import forkq",
            "import forkq; q = forkq.Queue(); q.put(1)",
            "import forkq; q = forkq.Queue(); [q.put('x' * 100) for n in range(20000)]",
            "import forkq; q = forkq.Queue(); q.put(bytes(1 << 20)); q.close()",
            "import forkq; q = forkq.Queue(); q.put(1); q.cancel_join_thread()",
            "import forkq; q = forkq.SimpleQueue(); q.put(1)",
            "import forkq, threading as t; q = forkq.Queue();"
            "t.Thread(target=q.get, daemon=True).start()",
            "import forkq, threading as t; q = forkq.Queue(1); q.put(1);"
            "t.Thread(target=q.put, args=(2,), daemon=True).start()",
            "import forkq, sys; q = forkq.Queue(); q.put(1); sys.exit(0)",
            "import forkq; q = forkq.Queue(); q.loop = q; q.put(1)",
            "import forkq, atexit; q = forkq.Queue(); atexit.register(q.put, 1)",
            "import atexit; late = []; atexit.register(lambda: late[0].put(1)); import forkq;"
            "late.append(forkq.Queue())",
        ]:
            with self.subTest(code):
                ended = self.run_program(code)
                self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (0, "", ""))

    def test_another_interpreter(self):
        ended = self.run_program(
            "import _xxsubinterpreters as s; i = s.create(); s.run_string(i, 'import forkq')"
        )
        self.assertIn("main interpreter", ended.stderr)


class Forgotten(support.TestCase):
    def test_a_queue_goes_with_its_last_reference(self):
        forkq.SimpleQueue().put(1)  # the process has a pipe for signals from now on
        before = len(support.descriptors())
        queue = forkq.Queue()
        self.assertGreater(len(support.descriptors()), before)
        del queue
        self.assertEqual(len(support.descriptors()), before)
        queue = forkq.SimpleQueue()
        queue.put(1)
        del queue
        self.assertEqual(len(support.descriptors()), before)

    def test_in_a_cycle(self):
        queue = forkq.Queue()
        queue.loop = queue
        gone = weakref.ref(queue)
        del queue
        gc.collect()
        self.assertIsNone(gone())

    def test_what_was_put_is_sent_nevertheless(self):
        def child():
            for n in range(MANY):
                if queue_here[0].get(timeout=support.PATIENCE) != f"{n} {TEXT}":
                    os._exit(1)

        queue_here = [forkq.Queue()]
        process = self.start(child)
        put_many(queue_here[0], MANY)
        begin = time.monotonic()
        queue_here.clear()  # does not wait for the pipe
        self.assertLess(time.monotonic() - begin, support.PATIENCE)
        process.join(support.PATIENCE)
        self.assertEqual(process.exitcode, 0)
        support.wait_until(
            lambda: forkq.Queue()
            and not any(name.startswith("/memfd:forkq") for name in support.descriptors().values()),
            "nothing is left of it",
        )

    def test_while_threads_use_it(self):
        def use():
            queue = forkq.Queue()
            for n in range(50):
                queue.put(n)
            for n in range(50):
                queue.get()

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(support.PATIENCE)
            self.assertFalse(thread.is_alive())


class Deaths(support.TestCase):
    def test_a_getter_dies_and_others_go_on(self):
        """With multiprocessing.Queue nobody could get any more."""
        queue = forkq.Queue()
        process = support.fork.Process(target=queue.get)
        process.start()
        support.wait_until(lambda: support.sleeps(process.pid), "it waits")
        process.kill()
        process.join()
        queue.put(1)
        self.assertEqual(queue.get(timeout=support.PATIENCE), 1)

    def test_a_putter_dies_and_its_room_comes_back(self):
        def die():
            queue.cancel_join_thread()
            for n in range(4):
                queue.put(bytes(500))
            os.kill(os.getpid(), signal.SIGKILL)

        queue = forkq.Queue(4)
        self.run_child(die, -signal.SIGKILL)
        while True:
            try:
                queue.get(timeout=0.2)
            except forkq.Empty:
                break
        for n in range(4):
            queue.put(n, timeout=support.PATIENCE)


if __name__ == "__main__":
    support.main()
