"""What multiprocessing's own tests ask of queues, and what forkq does otherwise on purpose."""
import os
import threading
import time

import forkq
import support


class Unpicklable:
    def __reduce__(self):
        raise NotImplementedError("not this")


class Queues(support.TestCase):
    def setUp(self):
        self.queue = forkq.Queue()
        self.addCleanup(self.queue.close)

    def assert_full(self, queue):
        for arguments, names in [
            ((1, False), {}),
            ((1, False, None), {}),
            ((1, True, 0.01), {}),
            ((1, False, 30), {}),
            ((1, True, -1), {}),
            ((1,), {"timeout": 0.01}),
            ((), {"obj": 1, "block": False}),
        ]:
            with self.assertRaises(forkq.Full):
                queue.put(*arguments, **names)
        with self.assertRaises(forkq.Full):
            queue.put_nowait(1)

    def test_put_until_full(self):
        queue = forkq.Queue(maxsize=6)
        self.assertTrue(queue.empty())
        self.assertFalse(queue.full())
        queue.put(1)
        queue.put(2, True)
        queue.put(3, True, None)
        queue.put(4, False)
        queue.put(5, False, None)
        queue.put_nowait(6)
        self.assertFalse(queue.empty())
        self.assertTrue(queue.full())
        self.assert_full(queue)
        process = self.start(lambda: [queue.get() for _ in range(6)])
        process.join()
        self.assertTrue(queue.empty())
        self.assertFalse(queue.full())

    def test_get_until_empty(self):
        process = self.start(lambda: [self.queue.put(n) for n in (2, 3, 4, 5)])
        got = [self.queue.get(True, None), self.queue.get(True)]
        got += [self.queue.get(timeout=support.PATIENCE)]
        process.join()
        got += [self.queue.get_nowait()]
        self.assertEqual(got, [2, 3, 4, 5])
        for arguments, names in [
            ((False,), {}),
            ((True, 0.01), {}),
            ((False, 30), {}),
            ((True, -1), {}),
            ((), {"block": False}),
            ((), {"timeout": 0.01}),
        ]:
            with self.assertRaises(forkq.Empty):
                self.queue.get(*arguments, **names)
        with self.assertRaises(forkq.Empty):
            self.queue.get_nowait()

    def test_fork_after_puts(self):
        for n in range(10):
            self.queue.put(n)
        process = self.start(lambda: [self.queue.put(n) for n in range(10, 20)])
        process.join()
        self.assertEqual([self.queue.get() for _ in range(20)], list(range(20)))
        with self.assertRaises(forkq.Empty):
            self.queue.get(False)

    def test_qsize(self):
        sizes = [self.queue.qsize()]
        for change in (self.queue.put, self.queue.put):
            change(5)
            sizes.append(self.queue.qsize())
        for _ in range(2):
            self.queue.get()
            sizes.append(self.queue.qsize())
        self.assertEqual(sizes, [0, 1, 2, 1, 0])

    def test_a_timeout_is_waited_for(self):
        begin = time.monotonic()
        with self.assertRaises(forkq.Empty):
            self.queue.get(True, 0.2)
        self.assertGreaterEqual(time.monotonic() - begin, 0.2)

    def test_a_waiting_get_gets_what_comes(self):
        def echo():
            results.put(self.queue.get() + 1)

        results = forkq.Queue()
        process = self.start(echo)
        support.wait_until(lambda: support.sleeps(process.pid), "the child waits")
        self.queue.put(1)
        self.assertEqual(results.get(timeout=support.PATIENCE), 2)

    def test_a_waiting_put_gets_the_room(self):
        queue = forkq.Queue(1)
        queue.put(1)
        process = self.start(lambda: queue.put(2))
        support.wait_until(lambda: support.sleeps(process.pid), "the child waits")
        self.assertEqual(queue.get(), 1)
        self.assertEqual(queue.get(timeout=support.PATIENCE), 2)

    def test_what_cannot_be_pickled_is_an_error_of_its_put(self):
        queue = forkq.Queue(1)
        with self.assertRaises(NotImplementedError):
            queue.put(Unpicklable())
        with self.assertRaises(Exception):
            queue.put(lambda: None)
        queue.put(True)
        self.assertEqual(queue.get(timeout=support.PATIENCE), True)
        self.assertEqual(queue.qsize(), 0)

    def test_an_object_is_what_it_was_when_it_was_put(self):
        changed = [1]
        self.queue.put(changed)
        changed.append(2)
        self.assertEqual(self.queue.get(), [1])

    def test_closed(self):
        queue = forkq.JoinableQueue()
        queue.close()
        queue.close()
        self.assertTrue(queue.closed)
        with self.assertRaisesRegex(ValueError, "is closed"):
            queue.put("foo")
        with self.assertRaisesRegex(ValueError, "is closed"):
            queue.get()
        with self.assertRaisesRegex(ValueError, "is closed"):
            queue.put_many(["foo"])
        with self.assertRaisesRegex(ValueError, "is closed"):
            queue.get_many(1)
        for ask in (queue.fileno, queue.room_fileno, queue.flush, queue.shutdown):
            with self.assertRaisesRegex(ValueError, "is closed"):
                ask()
        self.assertEqual(queue.qsize(), 0)
        self.assertFalse(queue.full())
        queue.join()
        queue.join_thread()
        queue.cancel_join_thread()

    def test_closed_and_sent(self):
        self.queue.put("foo")
        with self.assertRaises(AssertionError):
            self.queue.join_thread()
        self.queue.close()
        self.queue.join_thread(support.PATIENCE)
        with self.assertRaisesRegex(OSError, "is closed"):
            self.queue.empty()

    def test_a_close_ends_the_calls_of_other_threads(self):
        def get():
            try:
                self.queue.get()
            except ValueError as error:
                raised.append(error)

        raised = []
        threads = [threading.Thread(target=get) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            support.wait_until(
                lambda: support.sleeps(os.getpid(), thread.native_id), "the thread waits"
            )
        self.queue.close()
        for thread in threads:
            thread.join(support.PATIENCE)
        self.assertEqual(len(raised), 3)
        self.queue.join_thread(support.PATIENCE)

    def test_arguments(self):
        for wrong in (
            lambda: forkq.Queue(1.5),
            lambda: forkq.Queue("1"),
            lambda: self.queue.put(),
            lambda: self.queue.put(1, True, None, None),
            lambda: self.queue.put(1, obj=1),
            lambda: self.queue.put(1, wrong=1),
            lambda: self.queue.put(1, True, "1"),
            lambda: self.queue.get(True, "1"),
            lambda: self.queue.get_many(),
        ):
            with self.assertRaises(TypeError):
                wrong()
        for wrong in (
            lambda: forkq.Queue(codec="json"),
            lambda: forkq.Queue(name="a b"),
            lambda: forkq.JoinableQueue(lost_tasks="find"),
            lambda: self.queue.get_many(0),
            lambda: self.queue.get(timeout=float("nan")),
            lambda: self.queue.task_done(),
        ):
            with self.assertRaises(ValueError):
                wrong()
        self.assertEqual(self.queue.qsize(), 0)
        with self.assertRaises(OverflowError):
            forkq.Queue(1 << 64)

    def test_an_object_without_init_is_no_queue(self):
        queue = forkq.Queue.__new__(forkq.Queue)
        for use in (queue.get, queue.close, queue.qsize, lambda: queue.put(1), queue.stats):
            with self.assertRaisesRegex(ValueError, "not initialized"):
                use()
        with self.assertRaisesRegex(ValueError, "initialized already"):
            self.queue.__init__()

    def test_max_message(self):
        queue = forkq.Queue(max_message=100)
        queue.put(b"x" * 90)
        with self.assertRaises(ValueError):
            queue.put(b"x" * 100)
        self.assertEqual(queue.get(), b"x" * 90)

    def test_a_long_timeout(self):
        self.queue.put(1)
        self.assertEqual(self.queue.get(timeout=1e300), 1)
        self.queue.put(2)
        self.assertEqual(self.queue.get(timeout=float("inf")), 2)

    def test_lost_items_are_told(self):
        class Told(forkq.Queue):
            told = []

            @staticmethod
            def _on_queue_feeder_error(error, obj):
                Told.told.append((type(error), obj))

        def lose():
            queue = Told()
            queue.put({"first": 1})
            self.assertEqual(queue.get(), {"first": 1})
            for fd, name in support.descriptors().items():
                if fd > 2 and name.startswith("pipe:"):
                    os.close(fd)
            queue.put({"lost": 1})
            support.wait_until(lambda: Told.told, "the loss is told")
            self.assertEqual(Told.told[0][1], {"lost": 1})
            self.assertTrue(issubclass(Told.told[0][0], OSError))

        self.run_child(lose)


class Shutdown(support.TestCase):
    def test_puts_end_and_what_is_there_can_be_got(self):
        queue = forkq.Queue()
        queue.put(1)
        process = self.start(queue.shutdown)
        process.join()
        with self.assertRaises(forkq.ShutDown):
            queue.put(2)
        self.assertEqual(queue.get(), 1)
        with self.assertRaises(forkq.ShutDown):
            queue.get()

    def test_it_wakes_a_get(self):
        def get():
            try:
                queue.get()
            except forkq.ShutDown:
                os._exit(7)

        queue = forkq.Queue()
        process = support.fork.Process(target=get)
        process.start()
        support.wait_until(lambda: support.sleeps(process.pid), "the child waits")
        queue.shutdown()
        self.end(process, 7)

    def test_immediate(self):
        queue = forkq.JoinableQueue()
        queue.put(1)
        queue.shutdown(immediate=True)
        with self.assertRaises(forkq.ShutDown):
            queue.get()
        queue.join(support.PATIENCE)


class Tasks(support.TestCase):
    def test_join(self):
        def work():
            for _ in iter(queue.get, None):
                queue.task_done()
            queue.task_done()

        queue = forkq.JoinableQueue()
        workers = [self.start(work) for _ in range(4)]
        for n in range(10):
            queue.put(n)
        queue.join(support.PATIENCE)
        for _ in workers:
            queue.put(None)
        queue.join()
        with self.assertRaisesRegex(ValueError, "too many times"):
            queue.task_done()

    def test_join_has_a_timeout(self):
        queue = forkq.JoinableQueue()
        queue.put(1)
        with self.assertRaises(TimeoutError):
            queue.join(0.01)
        queue.get()
        queue.task_done()
        queue.join(0)

    def test_a_worker_dies(self):
        queue = forkq.JoinableQueue()
        queue.put(1)
        queue.put(2)

        def die():
            queue.get()
            os.kill(os.getpid(), 9)

        self.run_child(die, -9)
        queue.get()
        queue.task_done()
        with self.assertRaises(forkq.Abandoned) as raised:
            queue.join(support.PATIENCE)
        self.assertEqual(raised.exception.count, 1)
        self.assertIsInstance(raised.exception, forkq.Error)

    def test_the_task_of_a_dead_worker_is_told(self):
        queue = forkq.JoinableQueue(lost_tasks="tell")
        queue.put({"task": 1})
        with self.assertRaises(forkq.Empty):
            queue.get_lost()
        self.run_child(lambda: queue.get() and os.kill(os.getpid(), 9), -9)
        self.assertEqual(queue.get_lost(), {"task": 1})

    def test_the_task_of_a_dead_worker_is_got_again(self):
        queue = forkq.JoinableQueue(lost_tasks="redeliver")
        queue.put({"task": 1})
        self.run_child(lambda: queue.get() and os.kill(os.getpid(), 9), -9)
        self.assertEqual(queue.get(timeout=support.PATIENCE), {"task": 1})
        queue.task_done()
        queue.join(support.PATIENCE)
        self.assertEqual(queue.stats()["redelivered_items"], 1)


class Asking(support.TestCase):
    def test_stats_and_flush(self):
        queue = forkq.Queue(name="asked")
        queue.put(b"12345")
        queue.flush(support.PATIENCE)
        stats = queue.stats()
        self.assertEqual((stats["put_items"], stats["put_bytes"]), (1, 7))
        self.assertEqual((stats["outbox_items"], stats["got_items"]), (0, 0))
        self.assertIn("forkq:asked", " ".join(support.descriptors().values()))

    def test_flush_has_a_timeout(self):
        queue = forkq.Queue(shared_max_bytes=1)
        queue.put(bytes(1 << 20))  # more than the pipe holds
        with self.assertRaises(TimeoutError):
            queue.flush(0.01)
        queue.get()
        queue.flush(support.PATIENCE)

    def test_fileno(self):
        import select

        queue = forkq.Queue(1)
        poll = select.poll()
        poll.register(queue.fileno(), select.POLLIN)
        self.assertEqual(poll.poll(0), [])
        queue.put(1)
        self.assertTrue(poll.poll(support.PATIENCE * 1000))
        with self.assertRaises(forkq.Full):
            queue.put(2, False)
        poll.unregister(queue.fileno())
        poll.register(queue.room_fileno(), select.POLLIN)
        with self.assertRaises(forkq.Full):
            queue.put(2, False)
        self.assertEqual(poll.poll(0), [])
        queue.get()
        self.assertTrue(poll.poll(support.PATIENCE * 1000))


class SimpleQueues(support.TestCase):
    def test_empty(self):
        def child():
            results.put(queue.empty())
            go.get()
            results.put(queue.empty())

        queue, results, go = forkq.SimpleQueue(), forkq.SimpleQueue(), forkq.SimpleQueue()
        self.start(child)
        self.assertTrue(results.get())
        queue.put([1])
        go.put(None)
        self.assertFalse(results.get())
        self.assertEqual(queue.get(), [1])
        self.assertTrue(queue.empty())

    def test_closed(self):
        queue = forkq.SimpleQueue()
        queue.close()
        queue.close()
        for use in (queue.get, queue.empty, lambda: queue.put(1)):
            with self.assertRaisesRegex(OSError, "is closed"):
                use()

    def test_what_cannot_be_pickled(self):
        queue = forkq.SimpleQueue()
        with self.assertRaises(NotImplementedError):
            queue.put(Unpicklable())
        queue.put(1)
        self.assertEqual(queue.get(), 1)

    def test_a_close_ends_the_get_of_another_thread(self):
        def get():
            with self.assertRaisesRegex(OSError, "is closed"):
                queue.get()
            ended.append(1)

        ended = []
        queue = forkq.SimpleQueue()
        thread = threading.Thread(target=get)
        thread.start()
        support.wait_until(
            lambda: support.sleeps(os.getpid(), thread.native_id), "the thread waits"
        )
        queue.close()
        thread.join(support.PATIENCE)
        self.assertEqual(ended, [1])

    def test_it_keeps_nothing_in_the_process(self):
        queue = forkq.SimpleQueue()
        self.run_child(lambda: [queue.put(n) for n in range(100)] and 0)
        self.assertEqual([queue.get() for _ in range(100)], list(range(100)))


if __name__ == "__main__":
    support.main()
