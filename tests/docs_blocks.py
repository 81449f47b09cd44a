"""Run as a program: every Python block of the pages that are named, page by page in one process.

    python -m tests.docs_blocks PAGE ...

Blocks of a page share one namespace and an empty folder, as if typed one after the other. A block under the
line ``% needs: Class.name`` is left out while perler_jax has no such name; one under
``% reads: osmfish_allen`` where PERLER_JAX_DATA names no folder that holds it, and is read from there. What
fails is said with its line.
"""

import dataclasses
import functools
import os
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

BLOCK = re.compile(r"(?:^% (?:needs|reads): ([\w.]+)\n)?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(text):
    """(line number, code, needed name or None) of every Python block."""
    return [(text[: each.start(2)].count("\n") + 1, each[2], each[1]) for each in BLOCK.finditer(text)]


def is_there(name):
    """Whether perler_jax has Class.name, fields of a dataclass included; or the data set."""
    import perler_jax
    from perler_jax import osmfish_pair

    folder = Path(os.environ.get("PERLER_JAX_DATA", "no such folder")) / "osmfish_allen"
    if name == folder.name:
        osmfish_pair._fetch = functools.partial(osmfish_pair._find, folder)
        return folder.is_dir()

    found = perler_jax
    for part in name.split("."):
        fields = dataclasses.fields(found) if dataclasses.is_dataclass(found) else ()
        if part in {field.name for field in fields}:
            return True
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def run(path):
    """Run a page in an empty folder; the blocks that were run and those left out."""
    done, left_out = 0, 0
    names = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for line, code, needs in blocks(path.read_text(encoding="utf-8")):
            if needs and not is_there(needs):
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
