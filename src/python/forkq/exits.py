"""What becomes of queues where a process forks or ends.

A process first sends what it has put. At the end of a program the library does that. Children of
multiprocessing end with os._exit(), at which the library does nothing, and so it is done here.
"""
import atexit
import os
import weakref
from multiprocessing import process, util

from . import _forkq, asynchronous, handover

# As in multiprocessing: after the children were joined.
_EXIT_PRIORITY = -5
# After everything that may still put.
_END_PRIORITY = -1000

_sending = weakref.WeakSet()  # queues into which this process has put
_registered = False
_ending = False


def first_put(queue):
    """This process puts into the queue for the first time."""
    global _registered
    _sending.add(queue)
    if _ending and not _registered:
        _forkq.end()  # nothing would call it any more
    elif not _registered:
        util.Finalize(None, _send_all, exitpriority=_EXIT_PRIORITY)
        util.Finalize(None, _forkq.end, exitpriority=_END_PRIORITY)
        _registered = True  # a signal may have ended it before: the next put does it then


def _send_all():
    """Sends all where the process will end with os._exit. At any other end the library does it."""
    if process.parent_process() is None:
        return
    queues = list(_sending)
    try:
        for queue in queues:
            queue._end()
        _forkq.join_dropped()
    except BaseException:  # Ctrl-C: the user has waited for long enough
        for queue in queues:
            queue.cancel_join_thread()
        raise


def _begin_to_end():
    global _ending
    _ending = True


def _after_fork():
    global _registered
    _sending.clear()
    _registered = False
    handover.forked()
    asynchronous.forked()
    _forkq.after_fork()


atexit.register(_begin_to_end)  # before what multiprocessing has registered
os.register_at_fork(after_in_child=_after_fork)
