"""Experiments on the paper's claims: their measures find what was put in, their commands run to the end."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from experiments.compare.contract import Reference
from experiments.fly_claims import published as fly_published
from experiments.fly_claims.fits import thinned
from experiments.fly_claims.mapping import calibration, mixing
from experiments.fly_claims.patterns import domain_order, ventral_stripes
from experiments.fly_claims.peers import predicted_by_peers
from experiments.fly_claims.segments import stripe_lag
from experiments.modality import __main__ as modality
from experiments.validity import __main__ as validity
from experiments.validity.evaluation import tune_on_grid
from experiments.validity.variants import paired
from experiments.zebrafish import __main__ as zebrafish
from experiments.zebrafish import published as zebrafish_published
from perler_jax import fit_perler, load_fly, simulate_embryo
from perler_jax.scores.stripes import StripeAxis


@pytest.fixture(scope="module")
def fit():
    embryo = simulate_embryo(seed=1, n_locations=200, n_cells=300, n_genes=40, n_landmarks=20)
    return fit_perler(embryo.cells, embryo.reference, weights=(0.5, 0.0), progress=False)


def ring(n=4000):
    """Locations on the right half of a tube, and an axis that needs no straightening."""
    rng = np.random.default_rng(0)
    x, angle = rng.uniform(-200, 200, n), rng.uniform(0, np.pi, n)
    coordinates = np.stack([x, 80 * np.sin(angle), -80 * np.cos(angle)], axis=1)
    return coordinates, StripeAxis(0.0, 200.0, np.zeros((1, 1)), (0.0, 0.0))


@pytest.mark.parametrize("shift", [-6.0, -1.5, 0.0, 4.0])
def test_lag_of_stripes_is_the_shift_that_was_made(shift):
    grid = np.arange(0.0, 300.0)
    wave = np.sin(2 * np.pi * grid / 21)
    lag, height = stripe_lag(wave, np.sin(2 * np.pi * (grid - shift) / 21), 1.0, 10.0)
    assert lag == pytest.approx(shift, abs=0.2)
    assert height > 0.98  # half a step beside the peak the wave is at 0.989


def test_domains_in_the_known_order_and_in_the_opposite_one():
    coordinates, axis = ring()
    angle = np.degrees(np.arctan2(coordinates[:, 1], -coordinates[:, 2]))
    patterns = pd.DataFrame(
        {f"a{i}": np.exp(-(((coordinates[:, 0] - at) / 30) ** 2)) for i, at in enumerate((-100, 0, 100))}
        | {f"d{i}": np.exp(-(((angle - at) / 15) ** 2)) for i, at in enumerate((40, 90, 140))}
    )
    order = {"anteroposterior": {"a0": 1, "a1": 2, "a2": 3}, "dorsoventral": {"d0": 3, "d1": 2, "d2": 1}}
    table, found = domain_order(patterns, coordinates, axis, order)
    assert found == {"anteroposterior": pytest.approx(1.0), "dorsoventral": pytest.approx(-1.0)}
    assert table.set_index("gene")["centre"][["a1", "d1"]].to_numpy() == pytest.approx([0.0, 90.0], abs=5)


def test_stripes_that_fade_below_are_seen_to():
    coordinates, axis = ring()
    angle = np.degrees(np.arctan2(coordinates[:, 1], -coordinates[:, 2]))
    stripes = 1 + np.sin(2 * np.pi * coordinates[:, 0] / 60)
    whole = ventral_stripes(stripes, coordinates, axis)
    faded = ventral_stripes(np.where(angle < 45, 0.3, 1.0) * stripes, coordinates, axis)
    assert whole["range_ventral_over_lateral"] == pytest.approx(1.0, abs=0.1)
    assert faded["range_ventral_over_lateral"] == pytest.approx(0.3, abs=0.05)
    assert whole["correlation_of_profiles"] > 0.98


def test_calibration_sees_a_map_off_its_scale(fit):
    off = dataclasses.replace(fit.em.params, sensitivity=fit.em.params.sensitivity / 2)
    wrong = dataclasses.replace(fit, em=dataclasses.replace(fit.em, params=off))
    right = calibration(fit, 0)["slope"].iloc[:4].median()
    assert right == pytest.approx(1.0, abs=0.25)
    assert calibration(wrong, 0)["slope"].iloc[:4].median() > 1.4 * right


def test_cells_mix_with_cells_and_not_with_a_shifted_map(fit):
    shifted = dataclasses.replace(
        fit.em.params, background=fit.em.params.background + 5 * fit.em.params.noise
    )
    wrong = dataclasses.replace(fit, em=dataclasses.replace(fit.em, params=shifted))
    found = mixing(fit, neighbours=5, seed=0)
    assert found["cells"] == pytest.approx(0.5, abs=0.05)
    assert mixing(wrong, neighbours=5, seed=0)["model"] < 0.05 < found["model"]


def test_a_gene_has_no_say_in_the_weights_of_its_nested_score():
    points = np.array([[0.1, 0.0], [0.2, 0.0]])
    # Gene 0 alone prefers the first point; the others the second.
    table = np.array([[0.9, 0.50, 0.50], [0.5, 0.55, 0.55]])
    tuned = tune_on_grid(lambda at: table, [np.array([0]), np.array([1, 2])], points)
    assert tuned.point.tolist() == [0.1, 0.0]
    assert tuned.held_out.tolist() == [0.9, 0.5, 0.5]
    assert tuned.nested.tolist() == [0.5, 0.5, 0.5]
    assert paired(np.array([0.9, 0.8, 0.7]), np.array([0.5, 0.9, 0.1]))["genes_better_with"] == 2


def test_other_modality_is_carried(tmp_path):
    modality.main(["--fast", "--out", str(tmp_path)])
    found = pd.DataFrame(json.loads((tmp_path / "modality.json").read_text())["summary"])
    mean = found.set_index(["class", "metric"])["mean"]
    for kind in ("of a landmark", "of another gene", "open before expression"):
        assert mean[kind, "carried"] > mean[kind, "shuffled locations"] + 0.3
    assert mean["everywhere open", "relative spread"] < mean["of a landmark", "relative spread"]


def zebrafish_folder(folder):
    """The two files of the reference, with stained caps in place of the real stains."""
    places = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), axis=-1).reshape(-1, 2)
    dv, tier = places[:, 0] / 7, places[:, 1] / 7
    angle, up = dv * np.pi, (1 - tier) * 0.49 * np.pi
    xyz = np.stack([np.cos(angle) * np.cos(up), np.sin(angle) * np.cos(up), np.sin(up)], axis=1)
    bins = pd.DataFrame({"dv_index": places[:, 0], "tier_index": places[:, 1]}, index=range(1, 65))
    bins[["x", "y", "z"]] = xyz
    bins.rename_axis("bin").to_csv(folder / "geometry_64.tsv", sep="\t")
    rng = np.random.default_rng(0)
    genes = ["GSC", "SOX3", "OSR1", "CHD", "BAMBIA", "TA", "NOTO", "SZL", "LFT1", "FOXI1", "VENT", "NDR1"]
    caps = rng.normal(size=(3, len(genes)))
    stains = (xyz - xyz.mean(0)) @ caps > 0
    pd.DataFrame(stains.astype(int), bins.index, genes).rename_axis("bin").to_csv(
        folder / "ish_binary_64x47.tsv", sep="\t"
    )
    return folder


def test_zebrafish_runs_and_beats_chance(tmp_path):
    zebrafish.main(["--fast", "--data", str(zebrafish_folder(tmp_path)), "--out", str(tmp_path / "out")])
    found = pd.DataFrame(json.loads((tmp_path / "out" / "zebrafish.json").read_text())["simulated"])
    median = found.set_index("metric")["median_mean"]
    assert median["auc_nested"] > 0.8
    assert median["position_error"] < median["position_error_of_the_centre"]


def test_methods_of_a_binary_map_run_on_the_same_bins(tmp_path):
    data, out = zebrafish_folder(tmp_path), tmp_path / "out"
    zebrafish_published.main(["--fast", "--data", str(data), "--out", str(out)])
    found = json.loads((out / "published.json").read_text())["simulated"]
    assert set(found) == set(zebrafish_published.METHODS)
    median = pd.DataFrame(found["Seurat v1 (own)"]).set_index("metric")["median_mean"]
    assert median["auc_held_out"] > 0.7
    assert median["r_hidden"] > 0.3


def test_validity_runs_on_the_fly(fly_directory, tmp_path):
    validity.main(["--fast", "--only", "pi", "--data", str(fly_directory), "--out", str(tmp_path)])
    found = json.loads((tmp_path / "pi.json").read_text())["summary"]
    fixed, learned = found["pi fixed, plain EM"], found["pi learned, plain EM"]
    assert fixed["converged"]
    assert fixed["steps"] < learned["steps"]
    assert learned["log_likelihood"] > fixed["log_likelihood"]


def test_peers_predict_landmarks_and_other_genes_from_the_whole_reference(fly_directory):
    few = thinned(load_fly(fly_directory), 6)
    runs = {
        "built in": {"method": "nearest", "knob": 5},
        "elsewhere": {"method": "perler_released"},
    }
    found, skipped = predicted_by_peers(few, ["ftz", "wg"], runs)
    assert list(found) == ["built in"]
    assert list(skipped) == ["elsewhere"]
    table = found["built in"]
    assert table.shape == (few.reference.n_obs, 2)
    measured = np.log2(1 + few.reference.to_df()["ftz"])
    assert table["ftz"].corr(measured) > 0.5, "a landmark may help to predict itself"
    assert table["wg"].std() > 0


def test_places_and_stripes_of_the_published_methods():
    """Best locations of two cells by hand; waves along a tube, one twice as many as the other."""
    coordinates = np.array([[0.0, 0, 0], [1, 0, 0], [0, 3, 0]])
    best = np.array([[0, 1, 2], [1, 0, 2]])
    expected = np.median([(1 + 3) / 2, (1 + np.sqrt(10)) / 2])
    assert fly_published.ten_best_apart(best, coordinates) == pytest.approx(expected)
    coordinates, _ = ring()
    waves = 1 + np.sin(2 * np.pi * coordinates[:, [0]] / np.array([30.0, 60.0]))
    names = np.array(["a", "b"])
    reference = Reference(waves, np.log2(1 + waves), None, names, coordinates)
    config = {"axis": ["a", "b"], "striped": ["a", "b"], "prominences": [0.2]}
    found = fly_published.stripes(np.log2(1 + waves), reference, config)
    assert found["b"]["0.2"] >= 4
    assert found["a"]["0.2"] == pytest.approx(2 * found["b"]["0.2"], abs=1)  # the ends may cut one
