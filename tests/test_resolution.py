"""How sharp posteriors may be, learned with and without known origins; mass near the mode by landmarks."""

import dataclasses

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from perler_jax import PerlerSettings, fit_perler, simulate_embryo
from perler_jax.errors import PerlerInputError
from perler_jax.trust import agreement as agreement_module
from perler_jax.trust.agreement import agreement, calibrate_by_agreement
from perler_jax.trust.calibration import calibrate_on_cells, calibrate_on_map
from perler_jax.trust.origins import Tempering
from perler_jax.trust.positions import cell_positions
from perler_jax.trust.resolution import resolution_curve
from perler_jax.trust.sharpness import fitting_calibration
from tests import oracle
from tests.test_positions import make_posterior


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(
        seed=1, n_locations=300, n_cells=300, n_genes=60, n_landmarks=24, reference_noise=0.15
    )


@pytest.fixture(scope="module")
def fit(embryo):
    settings = PerlerSettings(n_metagenes=20)
    # Noise in the map is what makes a posterior too sure of itself.
    return fit_perler(embryo.cells, embryo.reference, settings=settings, weights=(0.5, 0.0), progress=False)


def side(posterior):
    params = posterior.params
    return params, jnp.asarray(posterior.cell_metagenes), jnp.asarray(posterior.reference_metagenes)


def two_views(n_cells, n_locations, seed, noise=(1.5, 2.0)):
    """Two sets of metagenes of the same cells, independent given their locations, on one map."""
    first, loops, truth = make_posterior(seed, n_cells, n_locations, noise)
    _, a, b, sigma, pi, _ = loops
    rng = np.random.default_rng(seed + 100)
    r = rng.normal(size=(n_locations, len(a)))
    x = a * r[truth] + b + sigma * rng.normal(size=(n_cells, len(a)))
    second = dataclasses.replace(first, cell_metagenes=x, reference_metagenes=r)
    return first, second, (loops, (x, a, b, sigma, pi, r))


def test_agreement_equals_brute_force_and_its_slope_differences(monkeypatch):
    first, second, loops = two_views(9, 14, seed=1)
    monkeypatch.setattr(agreement_module, "_ROW_ELEMENTS", 4 * 14)  # tiles of four cells, the last not full
    pi = loops[0][4]

    def brute(log_temperatures):
        rows = [
            oracle.responsibilities(x, a, b, sigma * np.exp(0.5 * each), pi, r)
            for each, (x, a, b, sigma, pi, r) in zip(log_temperatures, loops, strict=True)
        ]
        return np.log((rows[0] * rows[1] / pi).sum(axis=1)).mean()

    at = np.array([0.3, -0.2])
    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(agreement)(jnp.asarray(at), side(first), side(second))
    assert float(value) == pytest.approx(brute(at), rel=1e-9)
    steps = 1e-5 * np.eye(2)
    differences = [(brute(at + step) - brute(at - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(slope, differences, rtol=1e-5)


def test_places_that_hold_no_cells_do_not_agree():
    first, second, loops = two_views(9, 14, seed=1)
    with jax.enable_x64(True):
        log_pi = first.params.log_location_weights.at[3].set(-jnp.inf)
        sides = []
        for posterior in (first, second):
            params = dataclasses.replace(posterior.params, log_location_weights=log_pi)
            sides.append(side(dataclasses.replace(posterior, params=params)))
        value, slope = jax.value_and_grad(agreement)(jnp.zeros(2), *sides)
    rows, pi = [], np.where(np.arange(14) == 3, 0, loops[0][4])
    for x, a, b, sigma, _, r in loops:
        with np.errstate(divide="ignore", invalid="ignore"):
            rows.append(oracle.responsibilities(x, a, b, sigma, pi / pi.sum(), r))
    keep = np.arange(14) != 3
    expected = np.log((rows[0] * rows[1] / (pi / pi.sum()))[:, keep].sum(axis=1)).mean()
    assert float(value) == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_agreement_is_greatest_at_the_true_temperature(temperature):
    """One side is told less noise than there is, by this factor in variance; agreement finds it."""
    first, second, _ = two_views(4000, 60, seed=2)
    with jax.enable_x64(True):
        told = dataclasses.replace(first.params, noise=first.params.noise / np.sqrt(temperature))
        one, other = side(dataclasses.replace(first, params=told)), side(second)
        slope = jax.jit(jax.value_and_grad(agreement))

        def loss(at):
            value, gradient = slope(jnp.asarray(at), one, other)
            return -float(value), -np.asarray(gradient)

        found = np.exp(minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B").x)
    assert found[0] == pytest.approx(temperature, rel=0.12)
    assert found[1] == pytest.approx(1.0, rel=0.12)


def test_located_cells_find_the_true_temperature():
    posterior, _, truth = make_posterior(3, 3000, 150, noise=(0.6, 1.0))
    with jax.enable_x64(True):
        told = dataclasses.replace(posterior.params, noise=posterior.params.noise / np.sqrt(2.0))
    sure = dataclasses.replace(posterior, params=told)
    places = posterior.coordinates[truth]
    places[2500:] = np.nan  # nobody knows
    found = calibrate_on_cells(sure, places, n_cells=2500, spreads=(0.0, 1.0))
    # The places of neighbours have nothing to do with each other here: any spread is a loss.
    assert found.tempering.spread == 0
    assert found.tempering.temperature == pytest.approx(2.0, rel=0.12)
    assert found.table["coverage"].to_numpy() == pytest.approx([0.9, 0.9], abs=0.01)
    unseen = cell_positions(sure, slice(2500, None), tempering=found.tempering, medoid=False)
    assert unseen.contains(truth[2500:]).mean() == pytest.approx(0.9, abs=0.04)
    assert cell_positions(sure, tempering=Tempering(), medoid=False).contains(truth).mean() < 0.85


def test_landmarks_that_agree_make_regions_honest(embryo, fit):
    origin = embryo.cells.obs["true_location"].to_numpy()
    found = cell_positions(fit, medoid=False)
    tempered = found.contains(origin).mean()
    plain = cell_positions(fit, tempering=Tempering(), medoid=False).contains(origin).mean()
    assert plain < 0.8
    assert tempered == pytest.approx(0.9, abs=0.05)
    assert fitting_calibration(fit) == "agreement", "an atlas is smooth"
    again = calibrate_by_agreement(fit, n_repeats=2)
    assert again.tempering == found.tempering
    assert again.tempering.spread == 0
    assert again.table["n_landmarks"].tolist() == [8] * 6


def section(seed, n):
    """A tissue of single cells: the mix of four types changes across it, a cell's type is its own."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 100, (n, 2))
    centres = np.array([[20, 20], [80, 30], [30, 80], [80, 80]])
    odds = np.exp(-0.5 * (np.linalg.norm(places[:, None] - centres, axis=2) / 25) ** 2)
    types = np.array([rng.choice(4, p=each / each.sum()) for each in odds])
    profile = np.random.default_rng(0).gamma(1.0, 8.0, (4, 16))
    counts = rng.poisson(profile[types] * rng.lognormal(0, 0.2, (n, 16))).astype(float)
    names, genes = [f"s{seed}c{i}" for i in range(n)], [f"g{i}" for i in range(16)]
    return ad.AnnData(
        counts,
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=genes),
        obsm={"spatial": places},
    )


def test_a_map_of_single_cells_tells_its_own_temperature_and_spread():
    located, dissociated = section(1, 400), section(2, 300)
    places = dissociated.obsm["spatial"]
    fit = fit_perler(
        dissociated,
        located,
        settings=PerlerSettings(normalisation="none", n_metagenes=12),
        weights=(0.5, 0.0),
        progress=False,
    )
    plain = cell_positions(fit, tempering=Tempering(), medoid=False).contains(places).mean()
    assert plain < 0.5, "the nearest cell of the map is often of another type"
    found = calibrate_on_map(fit, n_cells=300, spreads=(0.0, 1.0, 3.0))
    assert found.tempering.spread > 0
    tempered = cell_positions(fit, tempering=found.tempering, medoid=False)
    assert tempered.contains(places).mean() == pytest.approx(0.9, abs=0.05)
    assert found.table["log_score"].idxmax() == found.table["spread"].tolist().index(found.tempering.spread)
    assert fitting_calibration(fit) == "map"
    default = cell_positions(fit, medoid=False)
    assert default.contains(places).mean() == pytest.approx(0.9, abs=0.05), "the default chooses by itself"
    agreed = cell_positions(fit, tempering="agreement", medoid=False)
    assert agreed.contains(places).mean() < 0.8, "landmarks agree on the type of a cell"
    # Better than ignorance: the same share of the tissue, wherever the cell is from.
    assert tempered.table["n_locations_90"].median() < 0.8 * 400


def test_mass_near_the_mode_grows_with_landmarks(fit):
    curve = resolution_curve(fit, [3, 8], n_draws=3, seed=0)
    assert curve.groupby(["n_landmarks", "draw"]).size().eq(3).all()
    assert curve.groupby("n_landmarks")["draw"].nunique().to_dict() == {3: 3, 8: 3, 24: 1}
    mass = curve.groupby(["spacings", "n_landmarks"])["mass"].mean().unstack()
    assert (np.diff(mass, axis=1) > 0).all(), "more landmarks, more mass near the mode"
    assert (np.diff(mass, axis=0) > 0).all(), "a larger radius holds more"
    effective = curve.groupby("n_landmarks")["effective_locations"].mean()
    assert (np.diff(effective) < 0).all()
    # All landmarks: the fit itself, up to where EM stops.
    whole = cell_positions(fit, tempering=Tempering(), medoid=False)
    last = curve[curve["n_landmarks"] == 24].set_index("spacings")
    for spacings, column in ((1, "within_1_spacing"), (4, "within_4_spacings")):
        assert last.loc[spacings, "mass"] == pytest.approx(whole.table[column].mean(), abs=5e-3)
        confident = (whole.table[column] > 0.5).mean()
        assert last.loc[spacings, "share_confident"] == pytest.approx(confident, abs=0.02)
        assert last.loc[spacings, "radius"] == pytest.approx(spacings * whole.spacing)


def test_draws_follow_the_seed(fit):
    one, again, other = (resolution_curve(fit, [3], n_draws=1, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    assert (one["mass"] != other["mass"]).any()


def test_what_cannot_be_used_is_refused(fit):
    places = np.zeros((300, 3))
    lost = dataclasses.replace(fit, cells=None)
    nowhere = dataclasses.replace(fit, reference=dataclasses.replace(fit.reference, coordinates=None))
    few = dataclasses.replace(fit, landmarks=fit.landmarks[:8])
    for call, message in (
        (lambda: resolution_curve(fit, [1], seed=0), "between 2 and 24"),
        (lambda: resolution_curve(fit, [25], seed=0), "between 2 and 24"),
        (lambda: resolution_curve(fit, n_draws=0, seed=0), "n_draws"),
        (lambda: resolution_curve(nowhere, seed=0), "coordinates"),
        (lambda: resolution_curve(lost, seed=0), "load_fit"),
        (lambda: cell_positions(lost), "tempering="),
        (lambda: calibrate_by_agreement(few), "at least 9 landmarks"),
        (lambda: calibrate_by_agreement(fit, n_repeats=0), "n_repeats"),
        (lambda: calibrate_on_cells(fit, places[:, :2]), "one row per cell"),
        (lambda: calibrate_on_cells(fit, np.full((300, 3), np.nan)), "at least 20 cells"),
        (lambda: calibrate_on_cells(fit, places, mass=1.0), "a mass between 0 and 1"),
        (lambda: calibrate_on_cells(nowhere, places), "coordinates"),
        (lambda: calibrate_on_map(fit, n_cells=10), "at least 20 cells"),
    ):
        with pytest.raises(PerlerInputError, match=message):
            call()


def test_an_impossible_calibration_is_said(caplog):
    """Cells said to be from a place where none can be: no noise buys that a region."""
    posterior, _, _ = make_posterior(4, 200, 60)
    with jax.enable_x64(True):
        log_pi = posterior.params.log_location_weights.at[7].set(-jnp.inf)
    params = dataclasses.replace(posterior.params, log_location_weights=log_pi)
    told = np.tile(posterior.coordinates[7], (200, 1))
    found = calibrate_on_cells(dataclasses.replace(posterior, params=params), told, spreads=(0.0,))
    assert found.table["coverage"].item() == 0
    assert "do map and cells belong together" in caplog.text
