"""The command line: what it prints, writes, refuses and leaves alone; and it computes what the API does."""

import dataclasses
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from perler_jax.app.arguments import build_parser
from perler_jax.app.cli import main
from perler_jax.errors import PerlerInputError
from perler_jax.files import load_fit
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings

COMMANDS = (
    "demo",
    "simulate",
    "fit",
    "reconstruct",
    "explore",
    "transfer",
    "positions",
    "report",
    "evaluate",
    "info",
)
SIZES = ["--seed", "4", "--cells", "120", "--locations", "150", "--genes", "60", "--landmarks", "12"]
# As many metagenes as the tuned fit has, whose compiled program then serves all tests.
QUICK = ["--weights", "0.1", "1", "--n-metagenes", "9"]
NAMES_OF_ANY_TYPE = {"check_index_type": False, "check_column_type": False}  # of pandas 3: texts or objects
TUNED = ["--folds", "4", "--seed", "3", "--search", "grid"]  # the gradient takes longer to compile


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files of a simulated embryo, a tuned fit and its reconstruction, all made by the command line."""
    folder = tmp_path_factory.mktemp("made")
    assert run("simulate", "-o", folder, *SIZES) == 0
    fitted = ("-o", folder / "fit.npz", "--result", folder / "result.h5ad", *TUNED)
    assert run("fit", folder / "cells.h5ad", folder / "reference.h5ad", *fitted) == 0
    return folder


@pytest.fixture(scope="module")
def cells(made):
    return anndata.read_h5ad(made / "cells.h5ad")


@pytest.fixture(scope="module")
def reference(made):
    return anndata.read_h5ad(made / "reference.h5ad")


def refused(capsys, *arguments):
    """The one line of stderr of a command that must end with code 2."""
    capsys.readouterr()
    assert run(*arguments, "--quiet") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("perler-jax: error: ")
    return lines[0]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# What can be asked for


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_the_terminal_and_its_examples_are_valid(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    assert main([command, "--help"] if command else ["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 90
    assert all(word in text for word in ([command, "--quiet"] if command else COMMANDS))
    _, examples = text.split("example:\n")
    examples = examples.split("\n\n")[0].replace("\\\n", " ").splitlines()
    assert len(examples) >= 1
    for example in examples:
        program, *words = shlex.split(example, comments=True)
        assert program == "perler-jax"
        build_parser().parse_args(words)  # or it exits


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"perler-jax \d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "required: COMMAND"),
        ("guess", "invalid choice: 'guess'"),
        ("fit cells.h5ad", "required: REFERENCE, -o/--out"),
        ("fit a b -o c.npz --folds 1", "--folds: expected at least 2, found 1"),
        ("fit a b -o c.npz --weights 1", "--weights: expected 2 arguments"),
        ("fit a b -o c.npz --covariance best", "invalid choice: 'best'"),
        ("evaluate a.npz --show few", "invalid whole number value: 'few'"),
        ("reconstruct a.npz b -o c.h5ad --genes en --genes-file d", "not allowed with"),
    ],
)
def test_wrong_usage_ends_with_2(line, message, capsys):
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


# What is computed


def test_a_fault_of_ours_is_shown_whole_and_ends_with_1(capsys, monkeypatch, tmp_path):
    def fail(arguments):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("perler_jax.app.commands.demo", fail)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "RuntimeError: a fault of ours" in said
    assert said.splitlines()[-1].endswith("this should not happen; please report it with the lines above")


def test_fit_equals_the_api(made, cells, reference):
    settings = PerlerSettings(folds=4, seed=3, search="grid")
    expected = fit_perler(cells, reference, settings=settings, progress=False)
    found = load_fit(made / "fit.npz")
    assert found.settings == settings
    pd.testing.assert_frame_equal(found.scores, expected.scores)
    assert found.scores["nested"].between(-1, 1).all()
    np.testing.assert_array_equal(found.weights.alpha, expected.weights.alpha)
    np.testing.assert_array_equal(found.weights.beta, expected.weights.beta)
    written, result = anndata.read_h5ad(made / "result.h5ad"), expected.reconstruct()
    pd.testing.assert_frame_equal(written.to_df(), result.to_df(), **NAMES_OF_ANY_TYPE)
    np.testing.assert_array_equal(written.obsm["spatial"], reference.obsm["spatial"])
    assert written.var["is_landmark"].sum() == 12


@pytest.fixture
def asked(monkeypatch):
    """What `fit` asks of `fit_perler`, which is not run: its arguments by name."""
    seen = {}

    def record(cells, reference, **options):
        seen.update(cells=cells, reference=reference, **options)
        raise PerlerInputError("recorded")

    monkeypatch.setattr("perler_jax.app.commands.fit_perler", record)
    return seen


def test_settings_start_from_the_preset(made, tmp_path, asked):
    inputs = ("fit", made / "cells.h5ad", made / "reference.h5ad", "-o", tmp_path / "f.npz")
    assert run(*inputs) == 2
    assert asked["settings"] == PerlerSettings()
    assert (asked["weights"], asked["location_weights"]) == (None, None)
    given = ["--preset", "released", "--dtype", "float32", "--n-metagenes", "5", "--reduction", "pca"]
    assert run(*inputs, *QUICK, *given, "--learn-location-weights") == 2
    assert asked["settings"] == dataclasses.replace(
        PerlerSettings.released(),
        dtype="float32",
        n_metagenes=5,
        reduction="pca",
        learn_location_weights=True,
    )
    assert asked["weights"] == (0.1, 1.0)


def test_tables_of_any_orientation_are_what_the_h5ad_is(made, cells, reference, tmp_path, asked, capsys):
    """Also where the rows only have numbers, which both tables then share."""
    counts, atlas = cells.to_df(), reference.to_df()
    positions = pd.DataFrame(reference.obsm["spatial"], reference.obs_names, ["x", "y", "z"])
    counts.T.to_csv(tmp_path / "genes_by_cells.csv")
    counts.reset_index(drop=True).to_csv(tmp_path / "numbered_cells.tsv", sep="\t")
    atlas.T.to_csv(tmp_path / "genes_by_locations.csv")
    atlas.reset_index(drop=True).to_csv(tmp_path / "numbered_locations.csv")
    positions.iloc[::-1].to_csv(tmp_path / "named.csv")
    positions.to_csv(tmp_path / "in_order.csv", index=False)
    names = list(counts.columns)
    for cells_path, reference_path, positions_path in (
        (tmp_path / "genes_by_cells.csv", tmp_path / "genes_by_locations.csv", tmp_path / "named.csv"),
        (tmp_path / "numbered_cells.tsv", tmp_path / "numbered_locations.csv", tmp_path / "in_order.csv"),
        (made / "cells.h5ad", tmp_path / "genes_by_locations.csv", tmp_path / "named.csv"),
        (tmp_path / "genes_by_cells.csv", made / "reference.h5ad", tmp_path / "named.csv"),
    ):
        line = ("fit", cells_path, reference_path, "--coordinates", positions_path, "-o", tmp_path / "f.npz")
        assert "recorded" in refused(capsys, *line)
        np.testing.assert_array_equal(asked["cells"].dense(names), counts.to_numpy())
        assert asked["cells"].scale == "counts"
        assert list(asked["reference"].genes) == list(atlas.columns)
        np.testing.assert_allclose(asked["reference"].values, atlas.to_numpy(), rtol=1e-12)
        np.testing.assert_allclose(asked["reference"].coordinates, positions.to_numpy(), rtol=1e-12)


def test_location_weights_are_matched_by_name(made, reference, tmp_path, asked, capsys):
    areas = pd.Series(np.linspace(1.0, 3.0, 150), reference.obs_names, name="area")
    areas.sample(frac=1.0, random_state=0).to_csv(tmp_path / "areas.csv")
    inputs = ("fit", made / "cells.h5ad", made / "reference.h5ad", "-o", tmp_path / "f.npz")
    assert "recorded" in refused(capsys, *inputs, "--location-weights", tmp_path / "areas.csv")
    np.testing.assert_allclose(asked["location_weights"], areas.to_numpy(), rtol=1e-12)
    areas.iloc[1:].to_csv(tmp_path / "areas.csv")
    line = refused(capsys, *inputs, "--location-weights", tmp_path / "areas.csv")
    assert "no row for 1 of 150 locations (location1)" in line


@pytest.mark.parametrize("how", ["--genes", "--genes-file"])
def test_reconstruct_some_genes(how, made, cells, tmp_path):
    names = ["stripe14_2", "mix3", "gap1"]
    (tmp_path / "names.txt").write_text("stripe14_2\n\n mix3 \ngap1\n")
    what = "stripe14_2, mix3,gap1" if how == "--genes" else tmp_path / "names.txt"
    out = tmp_path / "deep" / "some.h5ad"
    assert run("reconstruct", made / "fit.npz", made / "cells.h5ad", "-o", out, how, what, "--z-score") == 0
    expected = load_fit(made / "fit.npz", cells=cells).reconstruct(names, standardise=True)
    written = anndata.read_h5ad(out)
    pd.testing.assert_frame_equal(written.to_df(), expected.to_df(), **NAMES_OF_ANY_TYPE)
    assert written.uns["perler"]["units"] == "z-score over locations"


def test_reconstruct_all_genes_from_the_file_equals_the_result_of_fit(made, tmp_path, capsys):
    given = ("reconstruct", made / "fit.npz", made / "cells.h5ad", "-o", tmp_path / "all.h5ad", "--backed")
    assert run(*given) == 0
    assert "150 locations x 60 genes, log2(1 + expression)" in capsys.readouterr().out
    written, with_fit = (anndata.read_h5ad(path) for path in (tmp_path / "all.h5ad", made / "result.h5ad"))
    np.testing.assert_allclose(written.X, with_fit.X, rtol=1e-5)


def test_evaluate_prints_the_ends_and_writes_all(made, tmp_path, capsys):
    assert run("evaluate", made / "fit.npz", "-o", tmp_path / "scores.csv", "--show", 2) == 0
    printed = capsys.readouterr().out
    scores = load_fit(made / "fit.npz").scores
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "scores.csv", index_col=0), scores, check_dtype=False, atol=0.0
    )
    ordered = scores.sort_values("nested", ascending=False)
    rows = [line.split() for line in printed.splitlines()[2:7]]
    assert [row[0] for row in rows[:4]] == [*ordered.index[:2], *ordered.index[-2:]]
    assert [float(row[1]) for row in rows[:4]] == pytest.approx(
        ordered["nested"].iloc[[0, 1, -2, -1]], abs=6e-4
    )
    means = scores[["nested", "held_out", "reconstruction"]].mean()
    assert list(map(float, rows[4][-3:])) == pytest.approx(list(means), abs=6e-4)


# What files hold


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "fit.npz",
            [
                "fit by perler_jax",
                "intact +yes",
                "cells +120",
                "landmarks +12",
                "folds=4, search=grid, seed=3",
            ],
        ),
        ("result.h5ad", ["reconstruction by", "locations +150 .*3D", "genes +60", "units +log2", "alpha"]),
        ("cells.h5ad", ["kind +cells", "cells +120", "genes +60", "scale +counts", "obs +true_location"]),
        ("reference.h5ad", ["kind +reference", "locations +150 .*3D", "landmarks +12", "scale +linear"]),
    ],
)
def test_info_of_what_the_commands_write(name, words, made, capsys):
    assert run("info", made / name) == 0
    printed = capsys.readouterr().out
    assert all(re.search(word, printed) for word in words), printed
    assert max(map(len, printed.splitlines()[1:])) <= 100


def test_reports_on_files_start_without_jax(made):
    script = """
import sys
from perler_jax.__main__ import main
for words in (["info", *sys.argv[1:]], ["evaluate", sys.argv[1]]):
    sys.argv = ["perler-jax", *words]
    assert main() == 0
assert not {"jax", "jaxlib", "matplotlib", "numpyro", "arviz"} & set(sys.modules), sorted(sys.modules)
"""
    files = [made / name for name in ("fit.npz", "cells.h5ad", "reference.h5ad", "result.h5ad")]
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kind ") == len(files)


def test_info_of_a_fit_tells_its_scores(made, capsys):
    run("info", made / "fit.npz")
    fit = load_fit(made / "fit.npz")
    printed = capsys.readouterr().out
    assert re.search(rf"nested score +{fit.scores['nested'].mean():.3f} correlation", printed)
    assert fit.predictor.index[0] in printed


def test_info_of_what_users_bring(cells, reference, tmp_path, capsys):
    counts, atlas = as_cells(cells), as_reference(reference)
    parts = sp.csr_array(counts.values)
    np.savez(
        tmp_path / "cells.npz", data=parts.data, indices=parts.indices, indptr=parts.indptr,
        shape=parts.shape, genes=counts.genes, cells=counts.cells,
    )  # fmt: skip
    binary = (atlas.values > 0.5).astype(float)
    np.savez(tmp_path / "reference.npz", values=binary, genes=atlas.genes, locations=atlas.locations)
    cells.to_df().T.to_csv(tmp_path / "cells.csv.gz")
    tenx = tmp_path / "tenx"
    tenx.mkdir()
    scipy.io.mmwrite(tenx / "matrix.mtx", sp.coo_array(counts.values.T))
    pd.DataFrame({"id": counts.genes}).to_csv(tenx / "genes.tsv", sep="\t", header=False, index=False)
    pd.Series(counts.cells).to_csv(tenx / "barcodes.tsv", header=False, index=False)
    for name, words in {
        "cells.npz": ["kind +cells", "cells +120 \\(cell1, cell2, cell3, ...\\)", "genes +60", "counts"],
        "reference.npz": ["kind +reference", "150 .*no positions", "landmarks +12", "binary, only 0 and 1"],
        "cells.csv.gz": ["kind +table", "rows +60", "columns +120"],
        "tenx": ["kind +cells", "cells +120", "genes +60", "counts"],
    }.items():
        assert run("info", tmp_path / name) == 0
        printed = capsys.readouterr().out
        assert all(re.search(word, printed) for word in words), (name, printed)
        assert run("info", tmp_path / name, tmp_path / "reference.npz") == 0
        assert "gene names in both: 12: " in capsys.readouterr().out


def test_info_of_cells_that_do_not_tell_their_scale(cells, tmp_path, capsys):
    scaled = cells.copy()
    values = cells.to_df().to_numpy()
    scaled.X = values - values.mean(axis=0)
    scaled.write_h5ad(tmp_path / "cells.h5ad")
    names = {"genes": scaled.var_names.to_numpy(str), "cells": scaled.obs_names.to_numpy(str)}
    np.savez(tmp_path / "cells.npz", values=scaled.X, **names)
    for name in ("cells.h5ad", "cells.npz"):
        assert run("info", tmp_path / name) == 0
        printed = capsys.readouterr().out
        assert re.search(r"not to be used as it is +.*below zero as after centring.*--cells-scale", printed)


def test_info_and_fit_of_cells_that_have_a_layer(cells, reference, tmp_path, capsys):
    layered = cells.copy()
    layered.layers["counts"] = layered.X.copy()
    layered.write_h5ad(tmp_path / "cells.h5ad")
    assert run("info", tmp_path / "cells.h5ad") == 0
    printed = capsys.readouterr().out
    assert re.search(r"layers +counts$", printed, re.MULTILINE), printed
    assert re.search(r"cells +120", printed)
    found = as_cells(layered, layer="counts").values
    np.testing.assert_array_equal(found.toarray(), as_cells(cells).values.toarray())
    located = reference.copy()
    located.layers["raw"] = located.X.copy()
    np.testing.assert_array_equal(as_reference(located).values, as_reference(reference).values)


# What is refused


@pytest.mark.parametrize("command", ["fit", "reconstruct", "evaluate", "info", "demo"])
def test_a_missing_file_ends_with_2_and_leaves_nothing(command, made, tmp_path, capsys):
    gone, out = made / "gone.h5ad", tmp_path / "out"
    lines = {
        "fit": [(gone, made / "reference.h5ad"), (made / "cells.h5ad", gone), (gone, made / "gone.csv")],
        "reconstruct": [(made / "gone.npz", made / "cells.h5ad"), (made / "fit.npz", gone)],
        "evaluate": [(made / "gone.npz",)],
        "info": [(gone,), (made / "gone.npz",), (made / "gone.csv",)],
        "demo": [("--data", made)],
    }[command]
    ending = {"fit": ".npz", "reconstruct": ".h5ad", "evaluate": ".csv", "demo": ""}
    output = ("-o", out / f"x{ending[command]}") if command in ending else ()
    for inputs in lines:
        assert "gone" in refused(capsys, command, *inputs, *output) or command == "demo"
    assert not out.exists()


def test_a_changed_fit_is_refused(made, tmp_path, capsys):
    with np.load(made / "fit.npz") as archive:
        arrays = dict(archive)
    arrays["cell_metagenes"] = arrays["cell_metagenes"] + 1e-3
    np.savez(tmp_path / "changed.npz", **arrays)
    whole = (made / "fit.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name, message in (("changed.npz", "changed after it was written"), ("cut.npz", "truncated")):
        for command, *rest in (
            ("info",),
            ("evaluate", "-o", tmp_path / "scores.csv"),
            ("reconstruct", made / "cells.h5ad", "-o", tmp_path / "r.h5ad"),
        ):
            line = refused(capsys, command, tmp_path / name, *rest)
            assert message in line
            assert name in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed.npz", "cut.npz"]


def test_genes_that_cannot_be_reconstructed_are_named(made, tmp_path, capsys):
    line = ("reconstruct", made / "fit.npz", made / "cells.h5ad", "-o", tmp_path / "r.h5ad")
    assert "near misses: GAP1 ~ gap1" in refused(capsys, *line, "--genes", "GAP1,gap2")
    assert "found gap1 repeated" in refused(capsys, *line, "--genes", "gap1,gap2,gap1")
    assert "found none" in refused(capsys, *line, "--genes", " , ")
    assert "names.txt" in refused(capsys, *line, "--genes-file", tmp_path / "names.txt")
    assert "the 120 cells of the fit" in refused(
        capsys, line[0], line[1], made / "reference.h5ad", *line[3:], "--cells-scale", "log2"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_output_never_replaces_an_input(made, tmp_path, capsys):
    for name in ("cells.h5ad", "reference.h5ad", "fit.npz"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    (tmp_path / "soft.h5ad").symlink_to(tmp_path / "cells.h5ad")
    os.link(tmp_path / "fit.npz", tmp_path / "hard.npz")
    np.savez(tmp_path / "cells.npz", values=np.ones((3, 3)))
    before = contents(tmp_path)
    inputs = (tmp_path / "cells.h5ad", tmp_path / "reference.h5ad")
    for line in (
        ("fit", tmp_path / "cells.npz", inputs[1], "-o", tmp_path / "cells.npz"),
        ("fit", *inputs, "-o", tmp_path / "new.npz", "--result", tmp_path / "reference.h5ad"),
        ("fit", *inputs, "-o", tmp_path / "new.npz", "--result", tmp_path / "soft.h5ad"),
        ("reconstruct", tmp_path / "fit.npz", inputs[0], "-o", tmp_path / "soft.h5ad"),
        ("fit", tmp_path / "fit.npz", inputs[1], "-o", tmp_path / "hard.npz"),
    ):
        assert "an input" in refused(capsys, *line)
    assert contents(tmp_path) == before


def test_an_output_that_cannot_be_written_is_refused_before_any_work(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("perler_jax.app.commands.fit_perler", None)  # would be called if work began
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npz").mkdir()
    for out, message in (
        ("fit.h5ad", "ends in .npz"),
        ("folder.npz", "the folder"),
        ("file/fit.npz", "the file"),
    ):
        assert message in refused(
            capsys, "fit", made / "cells.h5ad", made / "reference.h5ad", "-o", tmp_path / out
        )
    assert "the file" in refused(capsys, "simulate", "-o", tmp_path / "file" / "deeper")


# What is left when a command does not end well


def half_written(path, *_, error, **__):
    Path(path).write_bytes(b"half")
    raise error


WRITERS = {
    "fit": ("numpy.savez_compressed", lambda path, *_, **__: path),
    "reconstruct": ("anndata.AnnData.write_h5ad", lambda _, path, *__, **___: path),
    "evaluate": ("pandas.DataFrame.to_csv", lambda _, path, *__, **___: path),
}


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError("disk full"), 1)])
@pytest.mark.parametrize("command", WRITERS)
def test_what_had_the_name_survives_a_failed_write(command, error, code, made, tmp_path, capsys, monkeypatch):
    writer, path_of = WRITERS[command]
    monkeypatch.setattr(writer, lambda *a, **k: half_written(path_of(*a, **k), error=error))
    inputs = {
        "fit": (made / "cells.h5ad", made / "reference.h5ad", *QUICK),
        "reconstruct": (made / "fit.npz", made / "cells.h5ad", "--genes", "gap1"),
        "evaluate": (made / "fit.npz",),
    }[command]
    ending = {"fit": "npz", "reconstruct": "h5ad", "evaluate": "csv"}[command]
    out = tmp_path / f"out.{ending}"
    out.write_text("before")
    assert run(command, *inputs, "-o", out) == code
    assert contents(tmp_path) == {out.name: b"before"}
    told = capsys.readouterr().err
    assert ("interrupted" in told) == (code == 130)
    assert ("disk full" in told and "Traceback" in told) == (code == 1)


@pytest.fixture
def program():
    return [sys.executable, "-m", "perler_jax"]


def test_ctrl_c_ends_a_fit_with_130(program, made, tmp_path):
    # A shell's background jobs, such as this test may run in, ignore the signal.
    hear = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    fit = [*program, "fit", made / "cells.h5ad", made / "reference.h5ad", "-o", tmp_path / "fit.npz"]
    with subprocess.Popen([sys.executable, "-c", hear, *fit], stderr=subprocess.PIPE, text=True) as process:
        told = []
        for text in process.stderr:
            told.append(text)
            if "landmarks shared" in text:  # the inputs are read; seconds of work lie ahead
                process.send_signal(signal.SIGINT)
                break
        told += process.stderr.readlines()
    assert process.returncode == 130, told
    assert "perler-jax: error: interrupted" in told[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_failure(program, made):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*program, "info", made / "cells.h5ad", "--quiet"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, b"")


# What is said


def test_notes_warnings_and_quiet(made, cells, tmp_path, capsys):
    empty = cells.copy()
    empty.X = sp.csr_matrix(empty.X.multiply(np.arange(120)[:, None] != 7))
    empty.write_h5ad(tmp_path / "cells.h5ad")
    line = ("fit", tmp_path / "cells.h5ad", made / "reference.h5ad", "-o", tmp_path / "f.npz", *QUICK)
    logger, before = logging.getLogger("perler_jax"), warnings.showwarning
    level, handlers = logger.level, list(logger.handlers)
    assert run(*line) == 0
    loud = capsys.readouterr().err.splitlines()
    assert run(*line, "--quiet") == 0
    quiet = capsys.readouterr().err.splitlines()
    assert all(text.startswith("perler-jax: ") for text in loud)
    assert any("12 of 12 landmarks shared" in text for text in set(loud) - set(quiet))
    (warning,) = quiet
    assert warning.startswith("perler-jax: warning: expected every cell to have some expression; found 1 of")
    assert warning in loud
    assert (logger.level, logger.handlers, warnings.showwarning) == (level, handlers, before)


def test_bars_have_an_eta(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = ("fit", made / "cells.h5ad", made / "reference.h5ad", "-o", tmp_path / "f.npz", *TUNED)
    assert run(*line) == 0
    told = capsys.readouterr().err
    assert re.search(r"held-out fits:.* 0/4 \[\d\d:\d\d<", told)  # elapsed < remaining
    assert "experts:" in told


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_bars_are_for_terminals_only(terminal, quiet, made, tmp_path, asked, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    line = ("fit", made / "cells.h5ad", made / "reference.h5ad", "-o", tmp_path / "f.npz")
    assert run(*line, *(["--quiet"] if quiet else [])) == 2
    assert asked["progress"] == (terminal and not quiet)
