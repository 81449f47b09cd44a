"""Run as a program: every Python block of the pages that are named, page by page in one process.

    python -m tests.docs_blocks PAGE ...

Blocks of a page share one namespace and an empty folder, as if typed one after the other. A block under the
line ``% reads: osmfish_allen`` is left out where PERLER_JAX_DATA names no folder that holds these data, and
reads them from there, not from the network. What fails is said with its line.

In a fast mode: a fit chooses among four experts, and a part of the real pair is read.
"""

import functools
import inspect
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
    """Whether the data set is at hand; its loader then reads a part of it from there."""
    from perler_jax import osmfish_pair

    folder = Path(os.environ.get("PERLER_JAX_DATA", "no such folder")) / name
    osmfish_pair._fetch = functools.partial(osmfish_pair._find, folder)
    load = inspect.unwrap(osmfish_pair.load_osmfish_pair)

    @functools.wraps(load)
    def part(*args):
        pair = load(*args)
        return type(pair)(pair.cells[::4].copy(), pair.reference[::8].copy())

    osmfish_pair.load_osmfish_pair = part
    return folder.is_dir()


def choose_among_few():
    """Let fits choose among four experts: small fits spend most of their time compiling what each needs."""
    from perler_jax.prediction import experts

    few = (experts.EXPERTS[0], experts.EXPERTS[6], *experts.EXPERTS[-2:])
    experts.usable_experts.__kwdefaults__["experts"] = few


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

    choose_among_few()
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
