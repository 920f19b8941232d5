"""Awaiting a queue on an asyncio loop, without a thread.

The loop watches a descriptor of the queue. What waits has its place in a line. When the descriptor can be read
from, the first in the line tries, in its own task: so a task that is cancelled has got nothing, and put
nothing.
"""
import asyncio
import collections
import weakref

# A descriptor may be ready although others were faster: how long it is left alone then.
_PAUSE = 0.001

_lines = weakref.WeakKeyDictionary()  # queue: {(loop, what): its line}


class _Line:
    """Those that wait for one thing of one queue on one loop."""

    def __init__(self, loop, fd):
        self._loop = loop
        self._fd = fd
        self._futures = collections.deque()
        self._watches = False
        self._timer = None
        self._is_parents = False

    def __len__(self):
        return len(self._futures)

    def enter(self, first):
        future = self._loop.create_future()
        (self._futures.appendleft if first else self._futures.append)(future)
        self.watch()
        return future

    def leave(self, future):
        self._futures.remove(future)
        if self._futures:
            self.watch()
        else:
            self.end()

    def watch(self):
        """Unless one was woken and has not tried yet, or the line pauses."""
        woken = self._futures[0].done()
        if not (self._watches or self._timer or woken or self._is_parents):
            self._loop.add_reader(self._fd, self._wake)
            self._watches = True

    def _stop(self):
        if self._watches:
            self._loop.remove_reader(self._fd)
        self._watches = False

    def _wake(self):
        self._stop()
        if not self._futures[0].done():
            self._futures[0].set_result(None)

    def pause(self):
        self._stop()
        self._timer = self._loop.call_later(_PAUSE, self._go_on)

    def _go_on(self):
        self._timer = None
        if self._futures:
            self.watch()

    def end(self):
        self._stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget(self):
        """The loop is the parent's."""
        self._watches = False
        self._is_parents = True

    def wake_all(self):
        """The queue is closed: each finds that out."""
        self.end()
        for future in self._futures:
            if not future.done():
                future.set_result(None)


async def call(queue, what, find_fd, attempt, missing):
    """Waits until attempt() does not raise `missing`. Who comes later waits after those in the line."""
    loop = asyncio.get_running_loop()
    lines = _lines.setdefault(queue, {})
    line = lines.get((loop, what))
    if line is None:
        try:
            return attempt()
        except missing:
            line = lines[loop, what] = _Line(loop, find_fd())
    first = False
    try:
        while True:
            future = line.enter(first)
            try:
                await future
            finally:
                line.leave(future)
            try:
                return attempt()
            except missing:
                first = True
                line.pause()
    finally:
        if not line:
            line.end()
            lines.pop((loop, what), None)


def close(queue):
    """The descriptors of the queue are closed next."""
    for line in _lines.pop(queue, {}).values():
        line.wake_all()


def forked():
    """The parent's loops and this process share what the system watches for them."""
    for lines in list(_lines.values()):
        for line in lines.values():
            line.forget()
    _lines.clear()
