"""Every notebook runs, and the rendered one beside it shows the present script."""

import re
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA

FOLDER = Path(__file__).parents[1] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))
READS = {  # real data, each from a folder of PERLER_JAX_DATA
    "09_osmfish_two_laboratories.py": "osmfish_allen",
    "10_fly_embryo.py": "drosophila",
    "11_villus_zones.py": "intestine_villus",
}
HASTY = {"04_bayesian_fits.py"}  # compiles far more than it computes


def test_there_are_notebooks():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs(script, run_script, monkeypatch):
    if script.name in READS:
        folder = SHARED_DATA / READS[script.name]
        if not folder.is_dir():
            pytest.skip(f"no data at {folder} (set PERLER_JAX_DATA to the data folder)")
        monkeypatch.setenv("PERLER_JAX_DATA", str(SHARED_DATA))
    run_script(script, hasty=script.name in HASTY)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_rendered_notebook_is_of_this_script(script):
    """Cell for cell; `python notebooks/render.py` renders anew."""
    jupytext = pytest.importorskip("jupytext")
    of_script = jupytext.read(script).cells
    rendered = jupytext.read(script.with_suffix(".ipynb")).cells
    assert [cell.source for cell in rendered] == [cell.source for cell in of_script]
    code = [cell for cell in rendered if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "it was run"
    assert not [out for cell in code for out in cell.outputs if out.output_type == "error"]


def test_the_rendered_chains_agree():
    """What a reader sees of NUTS: a wrong density once made the chains run away, and every cell still ran."""
    (rendered,) = FOLDER.glob("04*.ipynb")
    (r_hat,) = re.findall(r"largest R-hat ([0-9.]+),", rendered.read_text(encoding="utf-8"))
    assert float(r_hat) < 1.05
