"""cpython.py METHOD: CPython's own tests of multiprocessing's queues, unmodified, with the classes of forkq in
their place. Prints how many passed and failed, and each difference that is expected, with its reason.

Needs the tests: Debian's libpython3.11-testsuite.
"""
import importlib
import multiprocessing
import multiprocessing.context
import multiprocessing.queues
import sys
import unittest

import forkq

# What forkq does otherwise on purpose.
DIFFERENCES = {
    "test_queue_feeder_donot_stop_onexc": "an object that cannot be pickled is an error of its put",
    "test_queue_feeder_on_queue_feeder_error": "the same: no feeder meets such an object",
    "test_closed": "it looks at _reader and _writer, which are private",
}
CLASSES = ["WithProcessesTestQueue", "TestSimpleQueue"]


def put_in_place():
    """The tests find their queues in multiprocessing, and in its contexts."""

    class Context(multiprocessing.context.BaseContext):
        def Queue(self, maxsize=0):
            return forkq.Queue(maxsize)

        def JoinableQueue(self, maxsize=0):
            return forkq.JoinableQueue(maxsize)

        def SimpleQueue(self):
            return forkq.SimpleQueue()

    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        setattr(multiprocessing.context.BaseContext, name, getattr(Context, name))
        setattr(multiprocessing, name, getattr(multiprocessing.get_context(), name))
        setattr(multiprocessing.queues, name, getattr(forkq, name))


def load(method):
    module = importlib.import_module(f"test.test_multiprocessing_{method}")
    loader = unittest.TestLoader()
    return module, unittest.TestSuite(
        loader.loadTestsFromTestCase(getattr(module, name)) for name in CLASSES
    )


def run(method):
    module, suite = load(method)
    result = unittest.TestResult()
    module.setUpModule()
    try:
        suite.run(result)
    finally:
        module.tearDownModule()
    return result


def tell(method, result):
    """Returns how many failed without a reason, and how many differences there are not any more."""
    unexpected = 0
    differences = []
    for test, text in result.failures + result.errors:
        name = test.id().rpartition(".")[2]
        if name in DIFFERENCES:
            differences.append(f"  {name}: {DIFFERENCES[name]}")
        else:
            unexpected += 1
            print(f"{test.id()}\n{text}")
    gone = [name for name in DIFFERENCES if not any(name in line for line in differences)]
    for name in gone:
        print(f"{name} passes now: it is no difference")
    passed = result.testsRun - len(differences) - unexpected - len(result.skipped)
    print(f"{method}: {passed} passed, {unexpected} failed, {len(result.skipped)} skipped,", end=" ")
    print(f"{len(differences)} differ as expected:", *differences, sep="\n")
    return unexpected + len(gone)


def main():
    method = sys.argv[1]
    put_in_place()
    sys.exit(1 if tell(method, run(method)) else 0)


if __name__ == "__main__":
    main()
