"""Run as a program: every Python block of the pages that are named, page by page in one process.

    python -m tests.docs_blocks PAGE ...

Blocks of a page share one namespace and an empty folder, as if typed one after the other. A block under the
line ``% reads: osmfish_allen`` is left out where PERLER_JAX_DATA names no folder that holds these data, and
reads them from there, not from the network. What fails is said with its line.
"""

import functools
import os
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

BLOCK = re.compile(r"(?:^% reads: (\w+)\n)?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(text):
    """(line number, code, data set or None) of every Python block."""
    return [(text[: each.start(2)].count("\n") + 1, each[2], each[1]) for each in BLOCK.finditer(text)]


def is_there(name):
    """Whether the data set is at hand; its loader then reads it from there."""
    from perler_jax import osmfish_pair

    folder = Path(os.environ.get("PERLER_JAX_DATA", "no such folder")) / name
    osmfish_pair._fetch = functools.partial(osmfish_pair._find, folder)
    return folder.is_dir()


def run(path):
    """Run a page in an empty folder; the blocks that were run and those left out."""
    done, left_out = 0, 0
    names = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for line, code, reads in blocks(path.read_text(encoding="utf-8")):
            if reads and not is_there(reads):
                left_out += 1
                continue
            exec(compile("\n" * (line - 1) + code, str(path), "exec"), names)
            done += 1
        os.chdir("/")
    return done, left_out


def main(pages):
    """Run all pages; exit status 1 if any failed."""
    import matplotlib.pyplot as plt

    failed = []
    for page in map(Path, pages):
        try:
            start = time.perf_counter()
            done, left_out = run(page)
            took = time.perf_counter() - start
            print(f"{page}: {done} run, {left_out} left out, {took:.1f} s", file=sys.stderr)
        except Exception:
            failed.append(page)
            traceback.print_exc()
        plt.close("all")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
