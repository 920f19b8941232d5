"""The classes of queues."""
import sys
import traceback
import types
from multiprocessing.reduction import ForkingPickler
from queue import Empty, Full
from typing import NamedTuple

from . import _forkq, asynchronous, exits, handover

_PROTOCOL = 5  # the first with buffers out of band


class Ext(NamedTuple):
    """An ext of msgpack: a type of its own between programs, from -128 to 127, and its bytes."""

    code: int
    data: bytes


class _Sink:
    """A file to which a pickler writes pieces of a pickle."""

    def __init__(self, write):
        self.write = write


def _new_pickler():
    chunks, buffers = [], []
    pickler = ForkingPickler(_Sink(chunks.append), _PROTOCOL, True, buffers.append)
    return pickler.dump, pickler.clear_memo, chunks, buffers


_forkq.configure(ext=Ext, new_pickler=_new_pickler, first_put=exits.first_put)


class Queue(_forkq.Queue):
    """multiprocessing.Queue. `maxsize` items are its most; 0 or less: no limit.

    codec             'pickle': any object that can be pickled; 'msgpack': plain data, as C programs have it
    name              what tools call it
    max_message       the most bytes of an object
    outbox_max_bytes  the most bytes that one process has put and not yet sent
    shared_max_bytes  the most shared memory for large objects of one process
    spin_us           how long put and get look again and again before they sleep
    """

    _joinable = False

    def __init__(self, maxsize=0, *, ctx=None, **options):
        super().__init__(maxsize, joinable=self._joinable, **options)

    @classmethod
    def connect(cls, path, timeout=None, *, codec="pickle"):
        """The queue that another program serves at the path. Raises TimeoutError if it does not answer in time,
        and an OSError where nobody serves."""
        queue = cls.__new__(cls)
        queue._connect(path, timeout, codec)
        return queue

    async def aget(self):
        """Awaits an object. A task that is cancelled has got nothing."""
        return await asynchronous.call(self, "get", self.fileno, self.get_nowait, Empty)

    async def aput(self, obj):
        """Awaits room for the object. A task that is cancelled has put nothing."""
        await asynchronous.call(self, "put", self.room_fileno, lambda: self.put_nowait(obj), Full)

    def __aiter__(self):
        return self

    async def __anext__(self):
        """An `async for` ends when the queue is shut down and nothing is left."""
        try:
            return await self.aget()
        except _forkq.ShutDown:
            raise StopAsyncIteration from None

    def close(self):
        asynchronous.close(self)
        super().close()

    close.__doc__ = _forkq.Queue.close.__doc__

    def __reduce__(self):
        return handover.reduce(self, self.codec)

    @staticmethod
    def _on_queue_feeder_error(error, obj):
        """An object could not be sent, and is lost. It runs on another thread."""
        if not isinstance(error, BrokenPipeError):  # else nobody is left who could miss it
            traceback.print_exception(error, file=sys.stderr)

    __class_getitem__ = classmethod(types.GenericAlias)


class JoinableQueue(Queue):
    """multiprocessing.JoinableQueue: a queue with task_done and join.

    lost_tasks  what becomes of the tasks of a process that ends: 'count': join raises Abandoned; 'tell':
                get_lost returns them, too; 'redeliver': another process gets them
    """

    _joinable = True


class SimpleQueue(_forkq.SimpleQueue):
    """multiprocessing.SimpleQueue: no limit, no thread, no timeouts."""

    def __init__(self, *, ctx=None):
        super().__init__()

    def __reduce__(self):
        return handover.reduce(self)

    __class_getitem__ = classmethod(types.GenericAlias)
