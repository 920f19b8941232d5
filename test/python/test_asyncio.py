"""Awaiting a queue: nothing is lost by a cancellation, and nothing blocks the loop."""
import asyncio
import logging
import random
import socket
import time
import unittest

import forkq
import support
from forkq import asynchronous

logging.getLogger("asyncio").setLevel(logging.ERROR)  # it says how long a step takes on a busy machine


class Awaiting(unittest.IsolatedAsyncioTestCase, support.TestCase):
    async def wait(self, awaitable):
        return await asyncio.wait_for(awaitable, support.PATIENCE)

    async def test_what_is_there(self):
        queue = forkq.Queue(1)
        await self.wait(queue.aput([1]))
        self.assertEqual(await self.wait(queue.aget()), [1])

    async def test_what_comes_from_another_process(self):
        queue = forkq.Queue()
        tasks = [asyncio.create_task(queue.aget()) for _ in range(20)]
        await asyncio.sleep(0)
        self.start(lambda: [queue.put(n) for n in range(20)])
        self.assertEqual(await self.wait(asyncio.gather(*tasks)), list(range(20)))

    async def test_room_that_another_process_makes(self):
        queue, got = forkq.Queue(2), forkq.Queue()
        tasks = [asyncio.create_task(queue.aput(n)) for n in range(20)]
        await asyncio.sleep(0)
        self.start(lambda: [got.put(queue.get()) for _ in range(20)])
        await self.wait(asyncio.gather(*tasks))
        self.assertEqual([await self.wait(got.aget()) for _ in range(20)], list(range(20)))

    async def test_the_loop_goes_on(self):
        queue = forkq.Queue()
        task = asyncio.create_task(queue.aget())
        for _ in range(5):
            await asyncio.sleep(0.001)
        self.assertFalse(task.done())
        queue.put(1)
        self.assertEqual(await self.wait(task), 1)

    async def test_a_cancelled_get_has_got_nothing(self):
        queue = forkq.Queue()
        for n in range(200):
            task = asyncio.create_task(queue.aget())
            other = asyncio.create_task(queue.aget())
            await asyncio.sleep(0)
            queue.put(n)
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
            got = await asyncio.gather(task, return_exceptions=True)
            if isinstance(got[0], asyncio.CancelledError):
                self.assertEqual(await self.wait(other), n)
            else:
                self.assertEqual(got, [n])
                queue.put("next")
                self.assertEqual(await self.wait(other), "next")
        self.assertEqual(queue.qsize(), 0)

    async def test_a_cancelled_put_has_put_nothing(self):
        queue = forkq.Queue(1)
        for n in range(100):
            queue.put("first")
            task = asyncio.create_task(queue.aput(n))
            await asyncio.sleep(0)
            queue.get()
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
            got = await asyncio.gather(task, return_exceptions=True)
            if isinstance(got[0], asyncio.CancelledError):
                self.assertEqual(queue.qsize(), 0)
            else:
                self.assertEqual(queue.get(), n)

    async def test_async_for(self):
        queue = forkq.Queue()

        def put():
            for n in range(100):
                queue.put(n)
            queue.shutdown()

        self.start(put)
        self.assertEqual([n async for n in queue], list(range(100)))

    async def test_a_close_ends_it(self):
        queue = forkq.Queue()
        tasks = [asyncio.create_task(queue.aget()) for _ in range(3)]
        await asyncio.sleep(0.01)
        queue.close()
        for task in tasks:
            with self.assertRaisesRegex(ValueError, "is closed"):
                await self.wait(task)

    async def test_a_child_that_closes_the_queue(self):
        """It has the epoll instance of its parent's loop."""
        queue = forkq.Queue()
        task = asyncio.create_task(queue.aget())
        await asyncio.sleep(0)
        self.run_child(queue.close)
        queue.put(1)
        self.assertEqual(await self.wait(task), 1)

    async def test_a_line_pauses(self):
        """The descriptor is ready, though there is nothing: then it is left alone, however many wait."""
        times = []

        def attempt():
            times.append(time.monotonic())
            raise forkq.Empty

        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"ready")
            queue = forkq.Queue()
            calls = [asynchronous.call(queue, "get", ours.fileno, attempt, forkq.Empty) for _ in range(3)]
            tasks = [asyncio.create_task(call) for call in calls]
            while len(times) < 20:
                await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for before, after in zip(times[1:], times[2:]):  # the first attempt made the line
            self.assertGreaterEqual(after - before, asynchronous._PAUSE * 0.9)

    async def test_errors(self):
        queue = forkq.Queue()
        with self.assertRaises(Exception):
            await queue.aput(lambda: None)
        self.assertEqual(queue.qsize(), 0)

    def test_one_loop_after_the_other(self):
        queue = forkq.Queue()

        async def pass_one(n):
            task = asyncio.create_task(queue.aget())
            await asyncio.sleep(0)
            queue.put(n)
            return await self.wait(task)

        for n in range(5):
            self.assertEqual(asyncio.run(pass_one(n)), n)


if __name__ == "__main__":
    support.main()
