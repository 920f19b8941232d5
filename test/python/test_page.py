"""test_page.py PAGE: the script of the page runs, and its calls and options exist."""
import re
import subprocess
import sys
import tempfile
import unittest

import forkq
import support

with open(sys.argv[1]) as file:
    PAGE = file.read()


class Page(unittest.TestCase):
    def test_the_script_runs(self):
        script = re.search(r"^```python\n(from multi.*?)^```$", PAGE, re.M | re.S).group(1)
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(script)
            file.flush()
            ended = subprocess.run(
                [sys.executable, "-B", file.name],
                capture_output=True,
                text=True,
                timeout=support.PATIENCE,
            )
        self.assertEqual((ended.stdout, ended.stderr), (f"{sum(n * n for n in range(100))}\n", ""))

    def test_what_it_names_exists(self):
        for name in re.findall(r"queue\.([a-z_]+)\(", PAGE):
            self.assertTrue(hasattr(forkq.JoinableQueue, name), name)
        for line in re.findall(r"`((?:JoinableQueue|Queue)\([^`]*\))`", PAGE):
            eval(line, vars(forkq))

    def test_all_public_methods_are_named(self):
        known = set("put put_nowait get get_nowait task_done qsize full cancel_join_thread codec closed".split())
        for cls in (forkq.Queue, forkq.JoinableQueue):
            for name in dir(cls):
                if not name.startswith("_") and name not in known:
                    self.assertIn(name, PAGE)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
