"""Queues in processes that are started by spawn and forkserver."""
import multiprocessing
import os
import unittest.mock

import forkq
import support
from forkq import handover


class Named(forkq.Queue):
    """A class of the program's own."""


def work(queue, results, tasks):
    for obj in iter(queue.get, None):
        results.put((os.getpid() != os.getppid(), type(queue).__name__, queue.codec, obj))
    tasks.get()
    tasks.task_done()


def put_and_end(queue):
    for n in range(20000):
        queue.put(f"{n} " + "x" * 100)


def echo(get_from, put_to, again):
    put_to.put((get_from.get(), get_from is again))


class Started:
    """By the method of a class below."""

    def setUp(self):
        self.context = multiprocessing.get_context(self.method)

    def test_queues(self):
        queue, results, tasks = Named(5), forkq.SimpleQueue(), forkq.JoinableQueue()
        process = self.start(work, queue, results, tasks, context=self.context)
        queue.put([1])
        tasks.put("task")
        self.assertEqual(results.get(), (True, "Named", "pickle", [1]))
        queue.put(None)
        tasks.join(support.PATIENCE)
        process.join(support.PATIENCE)

    def test_codec(self):
        queue, results, tasks = forkq.Queue(codec="msgpack"), forkq.SimpleQueue(), forkq.JoinableQueue()
        self.start(work, queue, results, tasks, context=self.context)
        queue.put({"a": 1})
        self.assertEqual(results.get(), (True, "Queue", "msgpack", {"a": 1}))
        tasks.put(1)
        queue.put(None)

    def test_all_is_sent_at_the_end(self):
        queue = forkq.Queue()
        self.start(put_and_end, queue, context=self.context)
        for n in range(20000):
            self.assertEqual(queue.get(timeout=support.PATIENCE), f"{n} " + "x" * 100)

    def test_one_queue_twice(self):
        queue, results = forkq.Queue(), forkq.Queue()
        self.start(echo, queue, results, queue, context=self.context)
        queue.put(1)
        self.assertEqual(results.get(timeout=support.PATIENCE), (1, True))

    def test_several_processes(self):
        queue, results, tasks = forkq.Queue(), forkq.Queue(), forkq.JoinableQueue()
        for _ in range(3):
            self.start(work, queue, results, tasks, context=self.context)
        for n in range(30):
            queue.put(n)
        got = sorted(results.get(timeout=support.PATIENCE)[3] for _ in range(30))
        self.assertEqual(got, list(range(30)))
        for _ in range(3):
            tasks.put(0)
            queue.put(None)

    def test_descriptors_come_back(self):
        queue, results = forkq.Queue(), forkq.Queue()
        counts = []
        for _ in range(4):
            process = self.context.Process(target=echo, args=(queue, results, queue))
            process.start()
            queue.put(1)
            results.get(timeout=support.PATIENCE)
            self.end(process)
            process.close()
            counts.append(len(support.descriptors()))
        self.assertEqual(counts[1], counts[3])


class Spawn(Started, support.TestCase):
    method = "spawn"


class ForkServer(Started, support.TestCase):
    method = "forkserver"


class Sockets(support.TestCase):
    def test_each_is_closed_once(self):
        """While one thread closes it, another may start a process, too."""
        closed = []

        def close(fd):
            closed.append(fd)
            if len(closed) == 1:
                handover._close_what_arrived()

        handover._on_their_way.append((lambda: None, 1000))
        with unittest.mock.patch.object(handover.os, "close", close):
            handover._close_what_arrived()
        self.assertEqual(closed, [1000])


class Pickles(support.TestCase):
    def test_only_while_a_process_is_started(self):
        import pickle

        for queue in (forkq.Queue(), forkq.SimpleQueue()):
            with self.assertRaisesRegex(RuntimeError, "inheritance"):
                pickle.dumps(queue)

    def test_a_closed_queue(self):
        queue = forkq.Queue()
        queue.close()
        process = multiprocessing.get_context("spawn").Process(target=put_and_end, args=(queue,))
        with self.assertRaisesRegex(ValueError, "is closed"):
            process.start()


if __name__ == "__main__":
    support.main()
