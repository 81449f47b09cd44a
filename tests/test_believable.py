"""Results of the command line say of every gene how far to believe it; errors and intervals if asked."""

import anndata
import numpy as np
import pytest

import perler_jax as pj
from perler_jax.app.believable import believable_result, flag_counts
from perler_jax.app.cli import main
from perler_jax.trust import gene_reliability, summarise


@pytest.fixture(scope="module")
def embryo():
    return pj.simulate_embryo(seed=4, n_locations=150, n_cells=120, n_genes=40, n_landmarks=16)


@pytest.fixture(scope="module")
def fit(embryo):
    settings = pj.PerlerSettings(n_metagenes=8, predictor="mean", search="grid", folds=4)
    return pj.fit_perler(embryo.cells, embryo.reference, settings=settings, progress=False)


@pytest.fixture(scope="module")
def files(fit, embryo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    fit.save(folder / "fit.npz")
    embryo.cells.write_h5ad(folder / "cells.h5ad")
    return folder


def test_every_gene_has_a_flag_and_its_reason(files, fit, capsys):
    out = files / "result.h5ad"
    assert main(["reconstruct", str(files / "fit.npz"), str(files / "cells.h5ad"), "-o", str(out)]) == 0
    written = anndata.read_h5ad(out)
    expected = gene_reliability(fit, list(written.var_names), seed=0, splits=2)
    assert list(written.var["flag"]) == list(expected["flag"])
    assert list(written.var["reason"]) == list(expected["reason"])
    np.testing.assert_allclose(written.var["predicted"], expected["predicted"], rtol=1e-3)
    assert "standard_error" not in written.layers
    counts = expected["flag"].value_counts()
    assert f"genes  {counts.get('good', 0)} good, " in capsys.readouterr().out


def test_trust_adds_errors_and_intervals(files, fit):
    out = files / "sure.h5ad"
    paths = [str(files / name) for name in ("fit.npz", "cells.h5ad")]
    assert main(["reconstruct", *paths, "-o", str(out), "--trust", "--genes", "gap1,flat2"]) == 0
    written, expected = anndata.read_h5ad(out), summarise(fit, ["gap1", "flat2"])
    for layer in ("standard_error", "lower", "upper"):
        np.testing.assert_allclose(written.layers[layer], expected.layers[layer], rtol=1e-3, atol=1e-4)
    assert set(written.var["flag"]) <= {"good", "doubtful", "poor"}


def test_flags_can_be_left_out(files):
    out = files / "plain.h5ad"
    paths = [str(files / name) for name in ("fit.npz", "cells.h5ad")]
    assert main(["reconstruct", *paths, "-o", str(out), "--no-reliability", "--genes", "gap1"]) == 0
    assert "flag" not in anndata.read_h5ad(out).var


def test_errors_of_z_scores_are_refused(files, capsys):
    paths = [str(files / name) for name in ("fit.npz", "cells.h5ad")]
    assert main(["reconstruct", *paths, "-o", str(files / "z.h5ad"), "--trust", "--z-score"]) == 2
    assert "leave one out" in capsys.readouterr().err


def test_a_fit_by_given_weights_says_that_nothing_is_known(embryo, caplog):
    given = pj.fit_perler(embryo.cells, embryo.reference, weights=(0.2, 0.5), progress=False)
    result = believable_result(given, ["gap1"])
    assert "says nothing of the reliability of genes: expected a fit with held-out landmarks" in caplog.text
    assert flag_counts(result) == ""
