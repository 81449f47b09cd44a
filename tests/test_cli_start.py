"""What the command line imports before it answers: help and refusals wait for no library."""

import json
import subprocess
import sys

from perler_jax.app.arguments import build_parser

DATA = {"pandas", "anndata", "h5py", "matplotlib", "numpyro", "arviz"}
HEAVY = DATA | {"jax", "jaxlib", "numpy", "scipy", "tqdm"}

# In one process, for all of them must be light; the loop goes on after each as a new process would.
SCRIPT = """
import contextlib, io, json, sys
from perler_jax.__main__ import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["perler-jax", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        codes.append(main())
print(json.dumps([codes, sorted(name for name in sys.modules if "." not in name)]))
"""


def run(lines):
    """Exit codes of commands, and the modules that are imported after them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    codes, modules = json.loads(done.stdout)
    return codes, set(modules)


def commands():
    (action,) = [action for action in build_parser()._actions if action.dest == "command"]
    return list(action.choices)


def test_help_and_version_import_no_library():
    lines = [["--help"], ["--version"], *([name, "-h"] for name in commands())]
    codes, modules = run(lines)
    assert codes == [0] * len(lines)
    assert not modules & HEAVY


def test_wrong_usage_is_refused_without_any_library():
    codes, modules = run([[], ["guess"], ["fit", "a"], ["fit", "a", "b", "-o", "c.npz", "--folds", "1"]])
    assert codes == [2] * 4
    assert not modules & HEAVY


def test_versions_and_devices_need_jax_alone():
    codes, modules = run([["info"]])
    assert codes == [0]
    assert "jax" in modules
    assert not modules & DATA
