"""Queues that go to processes which are not forked from this one: spawn and forkserver.

A queue is pickled as the end of a socket on which the queue itself waits to be received.
"""
import os
import socket
import weakref
from multiprocessing import context, reduction

_here = weakref.WeakValueDictionary()  # the queues of this process that were handed over, by a name
_on_their_way = []  # processes that are started, and the sockets that they get


def _is_on_its_way(popen):
    """It is being started: neither done, nor given up."""
    return popen is not None and getattr(popen, "pid", None) is None


def _close_what_arrived():
    for entry in _on_their_way[:]:
        popen, fd = entry
        if _is_on_its_way(popen()):
            continue
        try:
            _on_their_way.remove(entry)
        except ValueError:
            continue  # another thread closes it
        os.close(fd)


def _send(queue):
    """The descriptor from which the queue is to be received."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        queue._send(ours.fileno())
        return theirs.detach()


def reduce(queue, *arguments):
    """What __reduce__ returns. As in multiprocessing, a queue is pickled only while a process is started."""
    context.assert_spawning(queue)
    _close_what_arrived()
    name = queue.__dict__.setdefault("_name_here", os.urandom(16))
    _here[name] = queue
    fd = _send(queue)
    _on_their_way.append((weakref.ref(context.get_spawning_popen()), fd))
    return _receive, (type(queue), name, reduction.DupFd(fd), *arguments)


def _receive(cls, name, duplicate, *arguments):
    """The queue. One that was received before is the same object."""
    with socket.socket(fileno=duplicate.detach()) as end:
        queue = _here.get(name)
        if queue is None:
            queue = cls.__new__(cls)
            queue._name_here = name
            queue._receive(end.fileno(), *arguments)
            _here[name] = queue
        return queue


def forked():
    """The sockets are for children of the parent."""
    for _, fd in _on_their_way:
        os.close(fd)
    _on_their_way.clear()
