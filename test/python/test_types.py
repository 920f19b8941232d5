"""The stubs: they are right by themselves, they are of the module as it is, and programs pass mypy."""
import inspect
import os
import subprocess
import sys
import unittest

import forkq

HAS_MYPY = subprocess.run([sys.executable, "-m", "mypy", "--version"], capture_output=True).returncode == 0

PACKAGE = os.path.dirname(forkq.__file__)
HERE = os.path.dirname(os.path.abspath(__file__))


class Stubs(unittest.TestCase):
    def test_all_names_are_there(self):
        """Of each class the stub has exactly the public names that it has."""
        import ast

        with open(os.path.join(PACKAGE, "__init__.pyi")) as file:
            stub = ast.parse(file.read())
        classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
        for name in ("Queue", "JoinableQueue", "SimpleQueue"):
            cls = getattr(forkq, name)
            own = {
                method
                for method in dir(cls)
                if not method.startswith("_") and method not in dir(object)
            }
            found = set()
            for base in ("Queue", name) if name == "JoinableQueue" else (name,):
                found |= {
                    node.name
                    for node in classes[base].body
                    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                    and not node.name.startswith("_")
                }
            if name == "Queue":
                own -= {"task_done", "join", "get_lost"}  # of joinable queues only
            self.assertEqual(found, own, name)
        for name in forkq.__all__:
            self.assertTrue(hasattr(forkq, name), name)

    def test_every_method_has_a_docstring_and_a_signature(self):
        for cls in (forkq.Queue, forkq.SimpleQueue):
            for name in dir(cls):
                method = getattr(cls, name)
                if name.startswith("_") or not callable(method):
                    continue
                self.assertTrue(method.__doc__, name)
                inspect.signature(method)

    def mypy(self, path):
        ended = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, path],
            env={**os.environ, "MYPYPATH": os.path.dirname(PACKAGE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return ended.returncode, ended.stdout

    @unittest.skipIf(not HAS_MYPY, "without mypy")
    def test_a_program(self):
        code, said = self.mypy(os.path.join(HERE, "typed.py"))
        self.assertEqual(code, 0, said)

    @unittest.skipIf(not HAS_MYPY, "without mypy")
    def test_a_wrong_program(self):
        import tempfile

        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write("import forkq\nq: forkq.Queue[int] = forkq.Queue()\nq.put('text')\n")
            file.flush()
            code, said = self.mypy(file.name)
        self.assertEqual(code, 1)
        self.assertIn("incompatible type", said)


if __name__ == "__main__":
    unittest.main()
