"""The package as a whole: what its import does, who imports whom, how long files are, the README's code."""

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import perler_jax

PACKAGE = Path(perler_jax.__file__).parent
README = PACKAGE.parent / "README.md"
LONGEST = 300

# A module imports only from modules above it. What is not listed is the rim (command line, demo, pictures),
# which no listed module may import.
LAYERS = [
    ("", ["errors", "choices", "settings", "versions", "compiler_faults", "idle_card", "later", "_typing"]),
    (
        "inputs",
        [
            "interface",
            "labels",
            "names",
            "frames",
            "lazy",
            "storage",
            "scales",
            "scale_evidence",
            "scale_reading",
            "axes",
            "checks",
            "beside",
            "groups",
            "sections",
            "alignment",
            "data",
            "filling",
            "missing",
            "annotated",
            "places",
            "spatial_tables",
            "intake",
            "separators",
            "tables",
        ],
    ),
    (
        "inputs.readers",
        [
            "reader",
            "foreign",
            "delimited",
            "arrays",
            "anndata_files",
            "tenx_features",
            "tenx_folder",
            "tenx_h5",
            "spatialdata_zarr",
            "platforms",
            "known",
        ],
    ),
    ("inputs", ["io", "archive"]),
    ("preparation", ["landmarks", "preprocessing", "batches", "validation"]),
    ("simulation", ["virtual_embryo", "simulate"]),
    ("sources", ["datasets", "osmfish_pair"]),
    ("scores", ["metrics", "stripes", "distmap", "dream"]),
    ("plotting", ["canvas", "views", "patterns", "embryo", "zones", "cells", "fit", "trust", "profile"]),
    ("scale", ["devices", "spread"]),
    (
        "method",
        [
            "grams",
            "metagenes",
            "tile_arithmetic",
            "tiles",
            "streaming",
            "noise",
            "evidence",
            "mixture",
            "density",
            "acceleration",
            "em_loop",
            "em",
            "weights",
            "neighbourhood",
        ],
    ),
    (
        "prediction",
        ["experts", "regression", "polishing", "shares", "choice"],
    ),
    ("prediction", ["mixed_weights", "predictor", "assembly"]),
    ("method", ["reconstruction"]),
    (
        "inference",
        [
            "priors",
            "model",
            "coordinates",
            "posterior",
            "map_em",
            "map_fit",
            "spatial",
            "batches",
            "implicit",
            "laplace",
            "whitening",
            "variational",
            "nuts",
        ],
    ),
    ("scale", ["plan", "checkpoint", "store"]),
    (
        "held_out",
        [
            "fold_em",
            "folds",
            "cross_validation",
            "surrogate",
            "search",
            "tuning",
            "scoring",
            "expert_grams",
            "expert_choice",
            "resume",
            "prediction",
            "objective",
            "tuner",
            "nested",
        ],
    ),
    (
        "facade",
        [
            "saved_fit",
            "annotation",
            "given",
            "problem",
            "selection",
            "gene_patterns",
            "fitted_predictor",
            "provenance",
            "fit",
            "new_cells",
            "files",
            "perler",
            "outer",
            "gradients",
        ],
    ),
    (
        "trust",
        [
            "tissue",
            "rows",
            "credible",
            "origins",
            "subsets",
            "calibration",
            "agreement",
            "sharpness",
            "placement",
            "positions",
            "mapping",
            "resolution",
            "ranked_locations",
            "landmark_space",
            "panel_criteria",
            "panel",
            "suggestion",
            "uncertainty",
            "predictor",
            "conformal",
            "summary",
            "bootstrap",
            "split_halves",
            "signals",
            "reliability_model",
            "reliability",
        ],
    ),
    ("labelling", ["cell_labels", "regression", "pooling", "opinions", "transfer"]),
    ("inference", ["bayes_arviz", "model_comparison"]),
]
FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
FOLDERS = {".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("*/__init__.py")}
ORDER = [f"{layer}.{name}" if layer in FOLDERS else name for layer, names in LAYERS for name in names]


def imported(path):
    """Modules of this package that a file imports, anywhere in it, as ``folder.module``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively: write the package's name"
            parent, _, module = (node.module or "").partition(".")
            if parent == "perler_jax":
                names = {".".join(filter(None, [module, alias.name])) for alias in node.names}
                found |= names & FILES or {module}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("perler_jax")
            }
    return found


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_name(path): imported(path) for path in PACKAGE.rglob("*.py") if path.stem != "__init__"}


def test_the_order_lists_modules_that_exist():
    assert len(set(ORDER)) == len(ORDER)
    assert set(ORDER) <= set(MODULES)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_what_comes_before_it(module):
    before = ORDER[: ORDER.index(module)]
    wrong = MODULES.get(module, set()) - set(before)
    assert not wrong, f"{module} imports {sorted(wrong)}, which come after it or belong to the rim"


def test_imports_have_no_cycle():
    assert set(graphlib.TopologicalSorter(MODULES).static_order()) == set(MODULES)


def others_imported(folder):
    """Distributions whose modules the files of a folder import, anywhere in them."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    found -= {"perler_jax", "tests", "experiments", *sys.stdlib_module_names}
    known = packages_distributions()
    return {name.lower().replace("_", "-") for module in found for name in known.get(module, [module])}


def declared(lines):
    return {re.match(r"[\w.-]+", line)[0].lower() for line in lines if isinstance(line, str)}


def test_every_import_is_declared_and_every_requirement_is_imported():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    required = declared(project["project"]["dependencies"])
    optional = {line for lines in project["project"]["optional-dependencies"].values() for line in lines}
    used = others_imported(PACKAGE)
    assert not used - required - declared(optional)
    assert not required - used
    in_tests = others_imported(PACKAGE.parent / "tests") - required
    # What an extra brings is imported by tests that are skipped without it.
    assert not in_tests - declared(project["dependency-groups"]["test"]) - declared(optional)


def test_every_file_can_be_read_in_one_sitting():
    lengths = {module_name(path): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST}


def test_importing_configures_nothing_and_touches_no_device():
    script = """
import sys, warnings
import jax
before = dict(jax.config.values)
warnings.simplefilter("error", UserWarning)
import perler_jax
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a device was started"
assert dict(jax.config.values) == before, "the configuration of JAX was changed"
assert not jax.config.jax_enable_x64
assert jax.live_arrays() == [], "arrays were made"
assert "matplotlib.pyplot" not in sys.modules, "a plotting backend was chosen"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_names_come_when_they_are_asked_for():
    script = """
import sys
import perler_jax
assert "jax" not in sys.modules
assert set(perler_jax.__all__) <= set(dir(perler_jax))
assert perler_jax.fit_perler is perler_jax.fit_perler
assert "fit_perler" in vars(perler_jax)
try:
    perler_jax.fit_pearler
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module 'perler_jax' has no attribute 'fit_pearler'\n"


def test_the_version_is_that_of_the_installed_package():
    assert perler_jax.__version__ == importlib.metadata.version("perler_jax")
    assert "__version__" in dir(perler_jax)


def test_the_front_door_exports_what_it_says():
    assert sorted(perler_jax.__all__) == list(perler_jax.__all__)
    for name in perler_jax.__all__:
        assert getattr(perler_jax, name).__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_all_names_exist(module):
    loaded = __import__(f"perler_jax.{module}", fromlist=["*"])
    assert loaded.__doc__
    missing = [name for name in getattr(loaded, "__all__", []) if not hasattr(loaded, name)]
    assert not missing


def python_blocks(text):
    """(line number, code) of every Python block of a Markdown text."""
    return [
        (text[: found.start(1)].count("\n") + 1, found.group(1))
        for found in re.finditer(r"^```(?:python|py)\b[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def test_python_blocks_are_found():
    text = "a\n```python\nx = 1\n```\n```sh\nls\n```\n``` python\nno\n```\n```py\ny = x + 1\n```\n"
    assert python_blocks(text) == [(3, "x = 1\n"), (12, "y = x + 1\n")]


def test_every_python_block_of_the_readme_runs(tmp_path, run_script):
    """In order, in one namespace, in an empty folder: as a reader would type them."""
    blocks = python_blocks(README.read_text())
    assert blocks, "the README shows no Python"
    script = ""
    for line, code in blocks:  # each stays in its line, so that a traceback names the README's
        script += "\n" * (line - 1 - script.count("\n")) + code
    (tmp_path / "readme.py").write_text(script)
    run_script(tmp_path / "readme.py")
