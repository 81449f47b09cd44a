"""Evidence, heavy tails and foreign cells through the whole method: fit, held-out genes, files."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perler_jax import (
    CellEvidence,
    PerlerInputError,
    PerlerSettings,
    fit_perler,
    load_fit,
    region_evidence,
    simulate_embryo,
)
from perler_jax.noise import Gaussian, StudentT
from perler_jax.trust.predictor import fold_predictors, landmark_table

CELLS, LOCATIONS = 90, 120


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, n_locations=LOCATIONS, n_cells=CELLS, n_genes=50, n_landmarks=10)


@pytest.fixture(scope="module")
def anterior(embryo):
    """Which half each cell was dissected from."""
    x = np.asarray(embryo.reference.obsm["spatial"])[:, 0]
    halves = pd.DataFrame({"anterior": x < np.median(x), "posterior": x >= np.median(x)})
    of_cell = halves.to_numpy()[embryo.cells.obs["true_location"]]
    return region_evidence(np.where(of_cell[:, 0], "anterior", "posterior"), halves, error=0.0), halves


def fit(embryo, evidence=None, **settings):
    chosen = PerlerSettings(n_metagenes=5, folds=3, dtype="float64", **settings)
    return fit_perler(embryo.cells, embryo.reference, settings=chosen, evidence=evidence, progress=False)


@pytest.fixture(scope="module")
def robust(embryo, anterior):
    return fit(embryo, anterior[0], noise="student_t", noise_df=4.0, foreign_cells=True)


def test_evidence_keeps_cells_in_their_half_and_improves_the_prediction(embryo, anterior):
    evidence, halves = anterior
    plain, known = fit(embryo), fit(embryo, evidence)
    inside = (
        halves.to_numpy()[embryo.cells.obs["true_location"]][:, 0][:, None] == halves["anterior"].to_numpy()
    )
    assert known.posterior().to_numpy()[~inside].max() < 1e-300
    assert plain.posterior().to_numpy()[~inside].max() > 0.01
    assert known.scores["nested"].mean() > plain.scores["nested"].mean()
    truth = embryo.truth.to_df()

    def accuracy(result):
        return np.nanmean([np.corrcoef(result[:, g].X.ravel(), truth[g])[0, 1] for g in truth.columns[:20]])

    assert accuracy(known.reconstruct()) > accuracy(plain.reconstruct())


def test_a_robust_fit_comes_back_from_its_file(robust, embryo, tmp_path):
    assert robust.em.params.noise_family == StudentT(4.0)
    assert 0 < float(robust.em.params.foreign.share) < 1
    robust.save(tmp_path / "fit.npz")
    back = load_fit(tmp_path / "fit.npz", cells=embryo.cells)
    assert back.em.params.noise_family == StudentT(4.0)
    assert back.settings == robust.settings
    pd.testing.assert_frame_equal(back.posterior([0, 5]), robust.posterior([0, 5]))
    pd.testing.assert_series_equal(back.foreign, robust.foreign)
    np.testing.assert_array_equal(back.reconstruct().X, robust.reconstruct().X)
    np.testing.assert_array_equal(back.held_out.votes, robust.held_out.votes)


def test_foreign_cells_do_not_vote(robust, embryo):
    """What a cell that is surely from elsewhere expresses changes no prediction."""
    foreign = robust.foreign
    np.testing.assert_allclose(robust.votes(), 1 - foreign, atol=1e-12)
    certain = dataclasses.replace(robust.em.params.foreign, share=jnp.asarray(0.999999))
    params = dataclasses.replace(robust.em.params, foreign=certain)
    sure = dataclasses.replace(robust, em=dataclasses.replace(robust.em, params=params))
    out = int(np.argmax(sure.foreign))
    gene = next(g for g in embryo.cells.var_names if g not in robust.landmarks)
    changed = embryo.cells.copy()
    counts = changed.to_df()  # not through changed[out, gene].X: a view of AnnData is not written through
    counts.loc[changed.obs_names[out], gene] += 50.0
    changed.X = sp.csr_array(counts.to_numpy())
    moved = np.abs(
        sure.reconstruct([gene], cells=changed).X - sure.reconstruct([gene], cells=embryo.cells).X
    ).max()
    ordinary = np.abs(
        robust.reconstruct([gene], cells=changed).X - robust.reconstruct([gene], cells=embryo.cells).X
    ).max()
    assert moved < ordinary


@pytest.mark.parametrize("plain", [True, False])
def test_a_cell_without_a_vote_is_heard_in_no_fold(robust, plain):
    """What trust learns on held-out landmarks counts cells as the folds' fits do."""
    landmarks = landmark_table(robust, robust.expression())
    votes = np.asarray(robust.held_out.votes).copy()
    votes[:, 4] = 0.0
    silent = dataclasses.replace(robust.held_out, votes=jnp.asarray(votes))
    deaf = dataclasses.replace(robust, held_out=silent)

    def means(fit, louder):
        found = []
        for genes, predictor in fold_predictors(fit, landmarks, plain=plain):
            values = landmarks.cells[:, genes].copy()
            values[4] += louder
            found.append(predictor.total(values))
        return np.concatenate(found, axis=1)

    np.testing.assert_allclose(means(deaf, 30.0), means(deaf, 0.0), atol=1e-6)
    assert np.abs(means(robust, 30.0) - means(robust, 0.0)).max() > 0.01


def test_a_file_of_before_noise_families_is_gaussian(embryo, tmp_path):
    """A field that a file does not hold keeps its default."""
    from perler_jax.inputs.archive import rebuild
    from perler_jax.mixture import MappingParams

    arrays = {f"p/{name}": jnp.ones(2) for name in ("sensitivity", "background", "noise")}
    found = rebuild("p", {"p": MappingParams}, {"p": "dataclass"}, arrays)
    assert found.noise_family == Gaussian()


def test_evidence_of_another_size_is_refused_before_any_work(embryo):
    wrong = CellEvidence(np.ones((CELLS - 1, 1)), np.ones((LOCATIONS, 1)))
    with pytest.raises(PerlerInputError, match="one row per cell and per location"):
        fit(embryo, wrong)
    with pytest.raises(PerlerInputError, match="degrees of freedom"):
        fit(embryo, noise="student_t", noise_df=-1.0)
