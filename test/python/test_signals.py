"""A signal whose handler raises ends each wait of the main thread at once."""
import _thread
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import forkq
import support

SOON = 5  # seconds: far more than a wait needs to end, and far less than it lasts without a signal
ENDED_BY_SIGNAL = 7


def full_queue():
    queue = forkq.Queue(1)
    queue.put(1)
    return queue


def undone_queue():
    queue = forkq.JoinableQueue()
    queue.put(1)
    queue.get()
    return queue


def large_queue():
    return forkq.Queue(shared_max_bytes=1)


def put_large(queue):
    """More than the pipe holds."""
    queue.put(bytes(1 << 20))


def put_and_close(queue):
    put_large(queue)
    queue.close()
    queue.join_thread()


def full_simple_queue():
    """The pipe is full."""
    queue = forkq.SimpleQueue()

    def fill():
        while True:
            queue.put(bytes(500))

    process = support.fork.Process(target=fill)
    process.start()
    support.wait_until(lambda: not queue.empty(), "it has begun")
    support.wait_until(lambda: support.sleeps(process.pid), "it waits")
    process.kill()
    process.join()
    return queue


def silent_server():
    """It takes connections, and says nothing."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"\0forkq-test-{os.getpid()}")
    server.listen()
    return server


def connect(server):
    forkq.Queue.connect("@" + server.getsockname()[1:].decode())


WAITS = {
    "get": (forkq.Queue, lambda queue: queue.get()),
    "get with a timeout": (forkq.Queue, lambda queue: queue.get(timeout=1000)),
    "get_many": (forkq.Queue, lambda queue: queue.get_many(5)),
    "put": (full_queue, lambda queue: queue.put(2)),
    "put of a large object": (full_queue, lambda queue: queue.put(bytes(1 << 20))),
    "put of an object in parts": (full_queue, lambda queue: queue.put([bytes(1 << 20)])),
    "put_many": (full_queue, lambda queue: queue.put_many([1, 2])),
    "join": (undone_queue, lambda queue: queue.join()),
    "flush": (large_queue, lambda queue: put_large(queue) or queue.flush()),
    "join_thread": (large_queue, put_and_close),
    "get of a simple queue": (forkq.SimpleQueue, lambda queue: queue.get()),
    "put of a simple queue": (full_simple_queue, lambda queue: queue.put(bytes(500))),
    "connect": (silent_server, connect),
}


class Signalling(list):
    """A signal comes while it is pickled: no bytecode runs from then on to the wait, which runs the handler."""

    def __reduce__(self):
        return list, (), None, map(_thread.interrupt_main, [signal.SIGALRM])


class Interrupts(support.TestCase):
    def wait_for_signal(self, queue, wait, send):
        """A child that waits, and to which a signal is sent, unless it sends one to itself. Returns how long it
        lived afterwards."""

        def child():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                wait(queue)
            except KeyboardInterrupt:
                os._exit(ENDED_BY_SIGNAL)
            os._exit(0)

        process = support.fork.Process(target=child)
        process.start()
        if send is not None:
            time.sleep(0.05)  # most are asleep by then; each moment must do
            support.wait_until(lambda: support.sleeps(process.pid), "the child waits")
            send(process)
        begin = time.monotonic()
        self.end(process, ENDED_BY_SIGNAL)
        return time.monotonic() - begin

    def test_each_wait(self):
        for name, (make, wait) in WAITS.items():
            with self.subTest(name):
                queue = make()
                took = self.wait_for_signal(
                    queue, wait, lambda process: os.kill(process.pid, signal.SIGINT)
                )
                self.assertLess(took, SOON)
                if hasattr(queue, "cancel_join_thread"):
                    queue.cancel_join_thread()
                queue.close()

    def test_a_signal_of_another_thread(self):
        """The system may give a signal to any thread, and only the main one runs handlers."""

        def wait(queue):
            def raise_signal():
                support.wait_until(lambda: support.sleeps(os.getpid()), "the main thread waits")
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)
                time.sleep(1000)

            threading.Thread(target=raise_signal, daemon=True).start()
            queue.get()

        self.assertLess(self.wait_for_signal(forkq.Queue(), wait, None), SOON)

    def test_any_moment(self):
        """A signal that comes just before the wait is not missed."""

        class Alarm(Exception):
            pass

        def handler(number, frame):
            raise Alarm

        def child():
            signal.signal(signal.SIGALRM, handler)
            queue, full = forkq.Queue(), full_queue()
            for i in range(500):
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 200e-6))
                    if i % 2:
                        queue.get(timeout=support.PATIENCE)
                    else:
                        full.put(2, timeout=support.PATIENCE)
                except Alarm:
                    continue
                os._exit(1)

        self.run_child(child)

    def test_a_handler_that_does_not_raise(self):
        def child():
            signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
            got = queue.get()
            os._exit(len(handled) if got == 1 else 99)

        handled = []
        queue = forkq.Queue()
        process = support.fork.Process(target=child)
        process.start()
        for n in range(3):
            support.wait_until(lambda: support.sleeps(process.pid), "the child waits")
            time.sleep(0.05)
            os.kill(process.pid, signal.SIGUSR1)
        time.sleep(0.05)
        queue.put(1)
        process.join(support.PATIENCE)
        self.assertIn(process.exitcode, (1, 2, 3))  # signals that come together are one
        process.close()

    def test_a_handler_that_waits_itself(self):
        def child():
            def handler(number, frame):
                if queue.get(timeout=support.PATIENCE) != 1:
                    os._exit(99)
                os._exit(ENDED_BY_SIGNAL)

            signal.signal(signal.SIGUSR1, handler)
            other.get()

        queue, other = forkq.Queue(), forkq.Queue()
        process = support.fork.Process(target=child)
        process.start()
        support.wait_until(lambda: support.sleeps(process.pid), "the child waits")
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGUSR1)
        queue.put(1)
        self.end(process, ENDED_BY_SIGNAL)

    def test_a_handler_that_waits_where_a_wait_begins(self):
        """The wait goes on afterwards, is ended by the next signal, and leaves the program's descriptor."""

        class Alarm(Exception):
            pass

        def handler(number, frame):
            handled.append(number)
            if len(handled) > 1:
                raise Alarm
            with self.assertRaises(forkq.Empty):
                other.get(timeout=0.001)
            signal.setitimer(signal.ITIMER_REAL, 0.05)

        def child():
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            signal.set_wakeup_fd(theirs.fileno())
            signal.signal(signal.SIGALRM, handler)
            full.put(1)  # the first put runs bytecode
            begin = time.monotonic()
            with self.assertRaises(Alarm):
                full.put(Signalling(), timeout=support.PATIENCE)
            self.assertLess(time.monotonic() - begin, SOON)
            self.assertEqual(signal.set_wakeup_fd(-1), theirs.fileno())
            ours.close()
            theirs.close()

        handled = []
        full, other = forkq.Queue(1), forkq.Queue()
        self.run_child(child)

    def test_a_handler_that_closes_and_joins(self):
        """The get that it interrupted is on its way until it returns."""

        def child():
            def handler(number, frame):
                queue.close()
                queue.join_thread()
                os._exit(ENDED_BY_SIGNAL)

            signal.signal(signal.SIGALRM, handler)
            queue.put(1)
            queue.get()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            queue.get(timeout=support.PATIENCE)

        queue = forkq.Queue()
        self.run_child(child, ENDED_BY_SIGNAL)

    def test_other_threads_go_on(self):
        def child():
            def get():
                got.append(queue.get())

            class Alarm(Exception):
                pass

            def handler(number, frame):
                raise Alarm

            got = []
            signal.signal(signal.SIGALRM, handler)
            threads = [threading.Thread(target=get) for _ in range(2)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                with self.assertRaises(Alarm):
                    signal.setitimer(signal.ITIMER_REAL, 0.002)
                    queue.get()
            queue.put(1)
            queue.put(2)
            for thread in threads:
                thread.join(support.PATIENCE)
            self.assertEqual(sorted(got), [1, 2])

        queue = forkq.Queue()
        self.run_child(child)


class WakeupDescriptor(support.TestCase):
    """The program's own descriptor for signals, as asyncio has one."""

    def test_it_is_told_and_stays(self):
        def child():
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            signal.set_wakeup_fd(theirs.fileno())
            signal.signal(signal.SIGALRM, lambda number, frame: None)
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with self.assertRaises(forkq.Empty):
                queue.get(timeout=0.2)
            ours.settimeout(support.PATIENCE)
            self.assertEqual(ours.recv(10), bytes([signal.SIGALRM]))
            self.assertEqual(signal.set_wakeup_fd(-1), theirs.fileno())
            ours.close()
            theirs.close()

        queue = forkq.Queue()
        self.run_child(child)

    def test_none_stays_none(self):
        with self.assertRaises(forkq.Empty):
            forkq.Queue().get(timeout=0.01)
        self.assertEqual(signal.set_wakeup_fd(-1), -1)

    def test_no_thread(self):
        """There is no memory for its stack, in a program that has had no thread."""
        code = (
            f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})\n"
            "import forkq, resource, support\n"
            "queue = forkq.Queue()\n"
            "try: queue.get(False)\n"  # the first takes a descriptor
            "except forkq.Empty: pass\n"
            "before = support.descriptors()\n"
            "limits = resource.getrlimit(resource.RLIMIT_AS)\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 20, limits[1]))\n"
            "try: queue.get(timeout=0.01)\n"
            "except OSError as error: failed = error\n"
            "resource.setrlimit(resource.RLIMIT_AS, limits)\n"
            "assert isinstance(failed, OSError)\n"
            "assert support.descriptors() == before\n"
            "try: queue.get(timeout=0.01)\n"
            "except forkq.Empty: print('empty')\n"
        )
        ended = subprocess.run(
            [sys.executable, "-B", "-c", code],
            capture_output=True,
            text=True,
            timeout=support.PATIENCE,
        )
        self.assertEqual((ended.stdout, ended.stderr), ("empty\n", ""))

    def test_a_fork_while_the_main_thread_waits(self):
        def fork():
            support.wait_until(lambda: support.sleeps(os.getpid()), "the main thread waits")
            pid = os.fork()
            if pid == 0:
                try:
                    code = 1 if signal.set_wakeup_fd(-1) != -1 else 0
                    with self.assertRaises(forkq.Empty):
                        forkq.Queue().get(timeout=0.01)
                finally:
                    os._exit(code)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            queue.put(1)

        codes = []
        queue = forkq.Queue()
        thread = threading.Thread(target=fork)
        thread.start()
        queue.get(timeout=support.PATIENCE)
        thread.join()
        self.assertEqual(codes, [0])

    def test_a_program_that_closes_what_it_does_not_know(self):
        def child():
            with self.assertRaises(forkq.Empty):
                forkq.Queue().get(timeout=0.01)
            os.closerange(3, 1000)
            files = [open("/dev/null") for _ in range(20)]
            with self.assertRaises(forkq.Empty):
                forkq.Queue().get(timeout=0.01)
            for file in files:
                file.close()

        self.run_child(child)


if __name__ == "__main__":
    support.main()
