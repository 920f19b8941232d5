"""What goes through a queue comes out as it was, and what cannot is a clear error."""
import array
import enum
import pickle
import random
import struct
import sys
import threading
import unittest

import forkq
import support

try:
    import numpy
except ImportError:
    numpy = None

PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    127,
    -(1 << 63),
    (1 << 63) - 1,
    1.5,
    float("inf"),
    "",
    "text",
    "\N{SNOWMAN}" * 300,
    b"",
    b"bytes",
    b"\xff" * 511,
    b"\xff" * 70000,
    bytes(3 << 20),
    "x" * 100000,
]
LISTS = [[], [1, [2, ["three", b"four", None]]], {}, {"a": {"b": [1, 2]}, 3: "c"}, list(range(5000))]


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return type(other) is Point and vars(self) == vars(other)


class Payload(support.TestCase):
    def pass_through(self, queue, value):
        queue.put(value)
        got = queue.get(timeout=support.PATIENCE)
        self.assertIs(type(got), type(value))
        self.assertEqual(got, value)
        return got


class Pickled(Payload):
    def setUp(self):
        self.queue = forkq.Queue()

    def test_plain(self):
        for value in PLAIN:
            self.pass_through(self.queue, value)

    def test_what_msgpack_does_not_have(self):
        for value in [
            1 << 63,
            1 << 64,
            -(1 << 70),
            "\ud800",
            (1, 2),
            {1, 2},
            bytearray(b"x"),
            bytearray(200000),
            Colour.RED,
            Text("x"),
            Point(1, [2]),
            {"large": b"x" * 200000, "small": "y"},
            ["z" * 70000, "z" * 70000, b"z" * 70000],
            ValueError,
            array.array("d", [1.5, 2.5]),
            range(7),
        ] + LISTS:
            self.pass_through(self.queue, value)

    def test_nan_and_an_exception(self):
        self.queue.put(float("nan"))
        self.assertNotEqual(self.queue.get(), 0)
        self.queue.put(ValueError("why"))
        self.assertEqual(self.queue.get().args, ("why",))

    def test_references_inside_an_object_stay(self):
        inner = [1]
        got = self.pass_through(self.queue, [inner, inner])
        self.assertIs(got[0], got[1])
        loop = []
        loop.append(loop)
        self.queue.put(loop)
        got = self.queue.get()
        self.assertIs(got[0], got)

    def test_nothing_of_one_object_is_in_the_next(self):
        shared = Point(1, 2)
        self.pass_through(self.queue, [shared])
        self.pass_through(self.queue, [shared])
        with self.assertRaises(Exception):
            self.queue.put([shared, lambda: None])
        self.pass_through(self.queue, [shared])

    def test_an_object_that_puts_while_it_is_pickled(self):
        queue = self.queue
        queue.put(Nested(queue, 3))
        depths = [queue.get() for _ in range(4)]
        self.assertEqual(depths, [0, 1, 2, 3])

    def test_reducers_of_multiprocessing_count(self):
        import multiprocessing.connection
        import socket

        queue = forkq.Queue()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            queue.put(theirs)
            with queue.get(timeout=support.PATIENCE) as got:
                got.sendall(b"hello")
                self.assertEqual(ours.recv(5), b"hello")
        multiprocessing.resource_sharer.stop()

    def test_buffers(self):
        for buffers in [
            [pickle.PickleBuffer(bytearray(b"abc"))],
            [pickle.PickleBuffer(b"abc")],
            [pickle.PickleBuffer(b"")],
            [pickle.PickleBuffer(bytearray(n)) for n in (1, 70000, 0, 300000)],
        ]:
            self.queue.put(buffers)
            got = self.queue.get(timeout=support.PATIENCE)
            self.assertEqual([bytes(b) for b in got], [bytes(b) for b in buffers])
            for before, after in zip(buffers, got):
                self.assertIs(type(after), type(memoryview(before).obj))

    def test_an_item_that_cannot_be_read(self):
        Vanishing.there = True
        self.queue.put(Vanishing())
        Vanishing.there = False
        with self.assertRaisesRegex(RuntimeError, "not any more"):
            self.queue.get()
        self.assertEqual(self.queue.qsize(), 0)
        self.pass_through(self.queue, [1])

    def test_hostile_buffers(self):
        """Bytes that are not what the ext says."""
        exts = [
            (0x51, data)
            for data in [
                b"",
                b"1234567",
                struct.pack("=Q", 1),
                struct.pack("=Q", 1 << 63),
                struct.pack("=QQ", 1, 1),
                struct.pack("=QQ", 1, (1 << 63) - 1),
                struct.pack("=QQQ", 1, (1 << 64) - 1, 0),
                struct.pack("=QQQ", 2, 8, 8),
            ]
        ]
        support.at_other_end(
            self.queue,
            "msgpack",
            f"for code, data in {exts}: queue.put(forkq.Ext(code, data))\n"
            "queue.put(forkq.Ext(0x50, b'no pickle'))\n"
            "queue.put(forkq.Ext(5, b'other'))\n",
        )
        for _ in exts:
            with self.assertRaises(forkq.CodecError):
                self.queue.get(timeout=support.PATIENCE)
        with self.assertRaises(pickle.UnpicklingError):
            self.queue.get(timeout=support.PATIENCE)
        self.assertEqual(self.queue.get(timeout=support.PATIENCE), forkq.Ext(5, b"other"))

    @unittest.skipIf(numpy is None, "without numpy")
    def test_arrays(self):
        for value in [
            numpy.arange(10),
            numpy.zeros((1080, 1920, 3), numpy.uint8),
            numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4)),
            numpy.arange(100)[::2],
        ]:
            self.queue.put({"image": value})
            got = self.queue.get(timeout=support.PATIENCE)["image"]
            self.assertTrue((got == value).all())
            self.assertTrue(got.flags.writeable)


class Nested:
    def __init__(self, queue, depth):
        self.queue, self.depth = queue, depth

    def __reduce__(self):
        if self.depth > 0:
            self.queue.put(Nested(self.queue, self.depth - 1))
        return int, (self.depth,)


class Vanishing:
    there = True

    def __reduce__(self):
        return _look, ()


def _look():
    if not Vanishing.there:
        raise RuntimeError("not any more")


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


class Msgpack(Payload):
    def setUp(self):
        self.queue = forkq.Queue(codec="msgpack")

    def test_plain(self):
        for value in PLAIN + LISTS + [(1 << 64) - 1]:
            self.pass_through(self.queue, value)

    def test_what_comes_back_as_another_type(self):
        for value, other in [
            ((1, (2,)), [1, [2]]),
            (bytearray(b"x"), b"x"),
            (memoryview(b"xyz")[1:], b"yz"),
            ([bytearray(b"x"), Text("y")], [b"x", "y"]),
            (Colour.RED, 1),
            ({(1, (2,)): 3}, {(1, (2,)): 3}),
        ]:
            self.queue.put(value)
            got = self.queue.get()
            self.assertEqual(got, other)
            self.assertIs(type(got), type(other))

    def test_ext(self):
        for code in (-128, -1, 0, 127):
            got = self.pass_through(self.queue, forkq.Ext(code, b"data"))
            self.assertEqual((got.code, got.data), (code, b"data"))
        for wrong in (forkq.Ext(128, b""), forkq.Ext(-129, b"")):
            with self.assertRaises(ValueError):
                self.queue.put(wrong)
        with self.assertRaises(TypeError):
            self.queue.put(forkq.Ext(1, "text"))

    def test_what_msgpack_does_not_have(self):
        for value in (Point(1, 2), {1, 2}, object(), 1j, [1, {"a": {2}}]):
            with self.assertRaises(TypeError):
                self.queue.put(value)
        for value in (1 << 64, -(1 << 63) - 1):
            with self.assertRaises(OverflowError):
                self.queue.put(value)
        with self.assertRaises(UnicodeError):
            self.queue.put("\ud800")
        loop, map_loop = [], {}
        loop.append(loop)
        map_loop[1] = map_loop
        for value in (loop, map_loop, nested(33)):
            with self.assertRaisesRegex(ValueError, "deep"):
                self.queue.put(value)
        self.pass_through(self.queue, nested(32))
        self.assertEqual(self.queue.qsize(), 0)

    def test_random_objects(self):
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)

        def make(depth):
            kind = rng.randrange(8 if depth < 6 else 6)
            if kind == 6:
                return [make(depth + 1) for _ in range(rng.randrange(6))]
            if kind == 7:
                return {str(rng.random()): make(depth + 1) for _ in range(rng.randrange(6))}
            return [
                None,
                rng.random() < 0.5,
                rng.randrange(-(1 << rng.randrange(1, 64)), 1 << rng.randrange(1, 65)),
                rng.random(),
                "s" * rng.choice([0, 31, 32, 255, 256, 70000]),
                rng.randbytes(rng.choice([0, 15, 16, 255, 256, 70000])),
            ][kind]

        with self.subTest(seed=seed):
            for _ in range(200):
                self.pass_through(self.queue, make(0))

    def test_a_pickle_in_it_is_an_error(self):
        queue = forkq.Queue()
        queue.put((1, 2))
        queue.put([pickle.PickleBuffer(b"abc")])
        queue.put("plain")
        told = support.at_other_end(
            queue,
            "msgpack",
            "for _ in range(2):\n"
            "    try: queue.get(timeout=60)\n"
            "    except forkq.CodecError as error: print(error)\n"
            "print(queue.get(timeout=60))\n",
        ).splitlines()
        self.assertEqual(len(told), 3)
        self.assertIn("pickle", told[0])
        self.assertIn("pickle", told[1])
        self.assertEqual(told[2], "plain")

    def test_codec(self):
        self.assertEqual(self.queue.codec, "msgpack")
        self.assertEqual(forkq.Queue().codec, "pickle")


class Batches(Payload):
    def test_all_kinds(self):
        for codec in ("pickle", "msgpack"):
            queue = forkq.Queue(codec=codec)
            for batch in [
                [b"a", b"", b"c" * 600, b"d" * 70000],
                [1, "two", None, b"three"],
                [[1], {"two": 2}, b"3" * 5000],
                [],
                range(600),
            ]:
                expected = list(batch)
                self.assertEqual(queue.put_many(batch), len(expected))
                got = []
                while len(got) < len(expected):
                    got += queue.get_many(1000, timeout=support.PATIENCE)
                self.assertEqual(got, expected)
            with self.assertRaises(forkq.Empty):
                queue.get_many(5, False)

    def test_count(self):
        queue = forkq.Queue()
        queue.put_many(range(10))
        queue.flush()
        self.assertEqual(queue.get_many(3), [0, 1, 2])
        self.assertEqual(queue.get_many(100), [3, 4, 5, 6, 7, 8, 9])

    def test_what_does_not_fit(self):
        queue = forkq.Queue(3)
        self.assertEqual(queue.put_many([1, 2, 3, 4], False), 3)
        with self.assertRaises(forkq.Full):
            queue.put_many([4], timeout=0.01)
        thread = threading.Thread(target=lambda: [queue.get() for _ in range(5)])
        thread.start()
        self.assertEqual(queue.put_many([4, 5, 6], timeout=support.PATIENCE), 3)
        thread.join()
        self.assertEqual(queue.get_many(9), [6])

    def test_an_object_that_cannot_be_put(self):
        queue = forkq.Queue()
        with self.assertRaises(Exception):
            queue.put_many([1, lambda: None, 3])
        self.assertEqual(queue.qsize(), 0)

    def test_an_object_that_cannot_be_got(self):
        queue = forkq.Queue()
        Vanishing.there = True
        queue.put_many([1, Vanishing(), 3])
        queue.flush()
        Vanishing.there = False
        with self.assertRaisesRegex(RuntimeError, "not any more") as raised:
            queue.get_many(3)
        self.assertEqual(raised.exception.items, [1, 3])


class Memory(support.TestCase):
    def test_nothing_is_left(self):
        """References and memory: a long run is no larger than a short one."""

        def use(queue, times):
            for _ in range(times):
                for value in ([1, "two", b"three" * 300], bytes(100000), {"a": bytearray(70000)}):
                    queue.put(value)
                    queue.get()
                try:
                    queue.put([lambda: None])
                except Exception:
                    pass
                try:
                    queue.get(False)
                except forkq.Empty:
                    pass

        queue = forkq.Queue()
        use(queue, 50)
        blocks, memory = sys.getallocatedblocks(), resident()
        use(queue, 300)
        self.assertLess(sys.getallocatedblocks() - blocks, 300)
        self.assertLess(resident() - memory, 8 << 20)

    def test_descriptors_come_back(self):
        def use():
            queue = forkq.Queue(5)
            queue.put(bytes(100000))
            queue.get()
            queue.put(1)
            queue.get()

        use()
        before = len(support.descriptors())
        for _ in range(20):
            use()
        support.wait_until(
            lambda: forkq.Queue() and len(support.descriptors()) <= before, "all are closed"
        )


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


if __name__ == "__main__":
    support.main()
