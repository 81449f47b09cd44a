"""Results know the code that made them: what counts as a change of it, and what is said of older ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
from experiments.freshness import code_hash, imported_code, is_fresh, records
from experiments.stale import described, replaced, stale

ROOT = Path(experiments.__file__).parents[1]
CODE = '''"""About."""

import math


def area(radius):
    """Of a circle."""
    return math.pi * radius**2  # squared
'''


@pytest.fixture
def repository(tmp_path):
    """A repository of its own with one experiment, and the record of a program that imported its code."""
    (tmp_path / "perler_jax").mkdir()
    (tmp_path / "perler_jax/__init__.py").write_text("")
    (tmp_path / "perler_jax/circle.py").write_text(CODE)
    (tmp_path / "perler_jax/never.py").write_text("raise SystemExit\n")
    (tmp_path / "experiments/rings/results").mkdir(parents=True)
    (tmp_path / "experiments/__init__.py").write_text("")
    (tmp_path / "experiments/freshness.py").write_text((ROOT / "experiments/freshness.py").read_text())
    (tmp_path / "experiments/rings/pictures.py").write_text("")
    program = tmp_path / "experiments/rings/main.py"
    program.write_text(
        "import json, experiments.rings.pictures\nfrom experiments.freshness import imported_code\n"
        "import experiments.freshness\n\ndef work():\n    from perler_jax.circle import area\n    area(1)\n\n"
        "work()\nprint(json.dumps(imported_code()))\n"
    )
    command = [sys.executable, "-m", "experiments.rings.main"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    return tmp_path, json.loads(done.stdout)


def test_the_record_has_what_was_imported_and_nothing_else(repository):
    root, record = repository
    files = record["files"].split()
    assert {"perler_jax/circle.py", "experiments/rings/main.py"} <= set(files)
    assert not {"perler_jax/never.py", "experiments/rings/pictures.py", "experiments/freshness.py"} & set(
        files
    )
    assert is_fresh(record, root)


@pytest.mark.parametrize(
    ("old", "new", "fresh"),
    [
        ("radius**2", "radius**3", False),
        ("import math\n", "import math\nimport cmath\n", False),
        ('"""Of a circle."""', '"""Of a disc,\n\n    which is round.\n    """', True),
        ("  # squared", "", False),  # a line of code was touched
        ("\n\n\ndef", "\n\n# A comment.\n\ndef", True),
        ('"""About."""', '"""Something else."""', True),
    ],
)
def test_only_code_counts(repository, old, new, fresh):
    root, record = repository
    assert old in CODE
    (root / "perler_jax/circle.py").write_text(CODE.replace(old, new))
    assert is_fresh(record, root) is fresh


def test_a_file_that_is_gone_makes_a_result_old_and_one_not_imported_does_not(repository):
    root, record = repository
    (root / "perler_jax/never.py").write_text("another = 1\n")
    assert is_fresh(record, root)
    (root / "perler_jax/circle.py").unlink()
    assert not is_fresh(record, root)


def test_text_that_is_no_docstring_counts():
    assert code_hash("x = 'a'\n") != code_hash("x = 'b'\n")
    assert code_hash("def f():\n    'a'\n    return 1\n") == code_hash("def f():\n    'b'\n    return 1\n")


def test_the_list_names_what_is_older_and_what_has_no_record(repository):
    root, record = repository
    older = record | {"sha256": "0" * 64}
    results = {
        "fresh": {"code": record, "value": 1},
        "older": {"code": older},
        "without": {"value": 2},
        "inside": {"part": {"made_with": {"code": older}}, "code": record},
        "rows": {
            "runs": {"a": {"code": record}, "b": {"code": older}, "c": {}, "d": {"skipped": "absent"}},
            "code": record,
        },
    }
    for name, content in results.items():
        (root / f"experiments/rings/results/{name}.json").write_text(json.dumps(content))
    found = stale(root / "experiments", root)
    assert found == {
        "rings/results/inside.json": "older than the code: part.made_with",
        "rings/results/older.json": "older than the code: the whole",
        "rings/results/rows.json": "older than the code: b; from before code was recorded: c",
        "rings/results/without.json": "from before code was recorded: the whole",
    }
    text = described(found)
    assert "- `rings/results/rows.json`: older than the code: b" in text
    assert "fresh.json" not in text


def test_the_list_stands_between_its_marks():
    text = (ROOT / "experiments/README.md").read_text()
    once = replaced(text, "first")
    assert "\n\nfirst\n\n" in once
    assert replaced(once, "second") == replaced(text, "second")
    with pytest.raises(ValueError, match="found them not both"):
        replaced("nothing", "x")


def test_this_program_has_a_record_too():
    record = imported_code()
    assert "experiments/stale.py" in record["files"].split()
    assert is_fresh(record, ROOT)
    assert list(records({"a": [1], "code": record, "b": {"code": record}})) == [("", record), ("b", record)]
