"""Queues that processes share: those of multiprocessing, with the same names and arguments.

    from forkq import Queue

Any process may be killed at any instruction, and a queue still works for all others. Programs in C use the
same queues. docs/python-module.md says what is different from multiprocessing.
"""
from queue import Empty, Full

from ._forkq import Abandoned, CodecError, Error, ShutDown, __version__
from .queues import Ext, JoinableQueue, Queue, SimpleQueue

__all__ = [
    "Abandoned",
    "CodecError",
    "Empty",
    "Error",
    "Ext",
    "Full",
    "JoinableQueue",
    "Queue",
    "ShutDown",
    "SimpleQueue",
]
