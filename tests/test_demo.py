"""The demo: the files it leaves, and a scoreboard that another reckoning from these files confirms."""

import contextlib
import io
import json
import re
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from perler_jax.app.cli import main
from perler_jax.app.demo import run_demo
from perler_jax.app.gallery import draw_gallery
from perler_jax.app.scoreboard import scoreboard_text
from perler_jax.errors import PerlerInputError
from perler_jax.files import load_fit
from perler_jax.scores.stripes import axis_profile, count_stripes, fit_axis
from perler_jax.simulation.simulate import simulate_embryo
from perler_jax.simulation.virtual_embryo import half_ellipsoid

SIZES = {"cells": 120, "locations": 200, "genes": 60, "landmarks": 13}
FILES = ["fit.npz", "patterns.png", "result.h5ad", "scoreboard.json"]


def correlation(a, b):
    return np.corrcoef(np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel())[0, 1]


def run(folder, *options):
    """Run the demo by the command line; what it printed, and its files read anew."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["demo", "-o", str(folder), "--quiet", *map(str, options)]) == 0
    return SimpleNamespace(
        folder=folder,
        printed=printed.getvalue(),
        scores=json.loads((folder / "scoreboard.json").read_text(), parse_constant=pytest.fail),
        fit=load_fit(folder / "fit.npz"),
        result=anndata.read_h5ad(folder / "result.h5ad"),
    )


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=5, **{f"n_{name}": size for name, size in SIZES.items()})


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    sizes = [word for name, size in SIZES.items() for word in (f"--{name}", size)]
    return run(tmp_path_factory.mktemp("demo") / "new" / "folder", "--seed", 5, *sizes)


@pytest.fixture(scope="module")
def fly(embryo, tmp_path_factory):
    """The demo on files like the fly's, with the simulated embryo's genes under names of the fly."""
    names = {"stripe7_1": "ftz", "stripe7_2": "eve", "stripe7_3": "h", "stripe7_4": "odd", "stripe7_5": "prd"}
    names |= {"stripe7_6": "run", "gap1": "Kr", "gap2": "twi", "mix1": "slp1", "mix2": "slp2", "mix3": "gsb"}
    names |= {"stripe14_1": "en", "stripe14_2": "wg", "stripe14_3": "hh", "stripe14_4": "mid", "mix4": "inv"}
    data, counts, reference = tmp_path_factory.mktemp("data"), embryo.cells.X, embryo.reference
    np.savez(
        data / "scrna_counts.npz", data=counts.data, indices=counts.indices, indptr=counts.indptr,
        shape=counts.shape, genes=[names.get(name, name) for name in embryo.cells.var_names],
        cells=list(embryo.cells.obs_names), norm_total=np.asarray(counts.sum(1)).ravel() + 3,
    )  # fmt: skip
    reference.to_df().rename(columns=names).to_csv(data / "bdtnp_reference.tsv.gz", sep="\t", index=False)
    halves = np.concatenate([reference.obsm["spatial"], reference.obsm["spatial"] * [1, -1, 1]])
    pd.DataFrame(halves, columns=["x", "y", "z"]).to_csv(data / "geometry.tsv.gz", sep="\t", index=False)
    return run(tmp_path_factory.mktemp("fly"), "--data", data)


@pytest.mark.parametrize("which", ["simulated", "fly"])
def test_files_are_left_and_named(which, request):
    left = request.getfixturevalue(which)
    assert sorted(path.name for path in left.folder.iterdir()) == FILES
    assert all(str(left.folder / name) in left.printed for name in FILES)
    picture = imread(left.folder / "patterns.png")
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.1


@pytest.mark.parametrize("which", ["simulated", "fly"])
def test_landmark_scores_are_those_of_the_files(which, request, embryo):
    left = request.getfixturevalue(which)
    scores, table = left.scores, left.fit.scores
    assert (scores["cells"], scores["locations"], scores["landmarks"]) == (120, 200, 13)
    assert scores["genes"] == left.result.n_vars == 60
    assert scores["nested_loo_acc"] == pytest.approx(table["nested"].mean())
    assert scores["loo_acc"] == pytest.approx(table["held_out"].mean())
    in_situ = np.log2(1 + embryo.reference.X)  # in the order of the landmarks under either name
    predicted = left.result[:, left.fit.landmarks].X
    by_hand = [correlation(predicted[:, i], in_situ[:, i]) for i in range(13)]
    assert scores["reconstruction_acc"] == pytest.approx(np.mean(by_hand), abs=1e-4)
    np.testing.assert_allclose(left.result.var["score_nested"].dropna(), table["nested"])
    weights = float(left.fit.weights.alpha[0]), float(left.fit.weights.beta[0])
    assert (scores["alpha"], scores["beta"]) == pytest.approx(weights)


def test_result_is_what_the_fit_reconstructs(simulated, embryo):
    again = simulated.fit.reconstruct(cells=embryo.cells)
    np.testing.assert_allclose(simulated.result.to_df(), again.to_df(), rtol=1e-5)


def test_truth_scores_are_those_of_the_files(simulated, embryo):
    coordinates, origin = embryo.reference.obsm["spatial"], embryo.cells.obs["true_location"].to_numpy()
    gamma = simulated.fit.posterior().to_numpy().astype(np.float64)

    def median_distance(placed):
        return np.median(np.sqrt(((placed - coordinates[origin]) ** 2).sum(1)))

    at = simulated.scores["positions"]
    assert at["top_location_um"] == pytest.approx(median_distance(coordinates[gamma.argmax(1)]))
    assert at["posterior_mean_um"] == pytest.approx(median_distance(gamma @ coordinates), rel=1e-4)
    assert at["posterior_mean_chance_um"] == pytest.approx(median_distance(coordinates.mean(0)))
    assert at["top_location_um"] < at["top_location_chance_um"] / 2
    kinds, landmarks = embryo.truth.var["class"], set(simulated.fit.landmarks)
    for kind, found in simulated.scores["unseen_genes"].items():
        genes = [gene for gene in kinds.index[kinds == kind] if gene not in landmarks]
        known, predicted = embryo.truth.to_df(), simulated.result.to_df()
        assert found["genes"] == len(genes)
        assert found["mean"] == pytest.approx(
            np.mean([correlation(predicted[g], known[g]) for g in genes]), abs=1e-4
        )
    assert set(simulated.scores["unseen_genes"]) == {
        "mixture",
        "pair-rule",
        "segment-polarity",
        "dorsoventral",
    }


def test_stripes_are_those_of_the_files(simulated, embryo):
    coordinates, stripes = embryo.reference.obsm["spatial"], simulated.scores["stripes"]
    in_situ = np.log2(1 + embryo.reference.to_df()[["stripe7_1", "stripe7_2", "stripe7_3"]].to_numpy())
    axis = fit_axis(coordinates, in_situ)
    assert list(stripes) == [f"stripe14_{number}" for number in (1, 2, 3, 4)]
    for gene, row in stripes.items():
        for side, table in (("reconstructed", simulated.result), ("known", embryo.truth)):
            profile = axis_profile(table[:, gene].X.ravel().astype(np.float64), coordinates, axis)
            assert row[side] == [count_stripes(*profile, prominence=share).n for share in (0.02, 0.08, 0.2)]
        assert row["correlation"] == pytest.approx(
            correlation(simulated.result[:, gene].X, embryo.truth[:, gene].X), abs=1e-4
        )
        assert row["in_fit"] is False


def test_fly_stripes_tell_what_was_seen(fly):
    stripes = fly.scores["stripes"]
    assert set(fly.fit.landmarks) >= {"ftz", "eve", "h", "odd", "prd", "Kr", "twi"}
    assert {gene for gene, row in stripes.items() if row["in_fit"]} == {"ftz", "eve", "h", "odd", "prd"}
    assert {gene for gene, row in stripes.items() if "known" not in row} == {
        "en", "wg", "hh", "mid", "slp1", "run"
    }  # fmt: skip
    assert stripes["ftz"]["correlation"] == pytest.approx(
        fly.fit.scores.loc["ftz", "reconstruction"], abs=1e-4
    )
    assert "positions" not in fly.scores


def test_fly_totals_are_those_of_the_authors(fly, embryo):
    totals = np.asarray(embryo.cells.X.sum(1)).ravel() + 3
    assert fly.fit.preprocessing.target_total == pytest.approx(np.median(totals))


@pytest.mark.parametrize("which", ["simulated", "fly"])
def test_what_is_printed_is_what_is_written(which, request):
    left = request.getfixturevalue(which)
    board, _ = left.printed.split("\nwritten\n")
    assert board.strip() == scoreboard_text(left.scores).strip()
    assert max(map(len, board.splitlines())) <= 100
    for key, label in (
        ("nested_loo_acc", "nested"),
        ("loo_acc", "held out"),
        ("reconstruction_acc", "reconst"),
    ):
        assert re.search(rf"^  {left.scores[key]:.3f}  {label}", board, re.MULTILINE), board
    for gene, row in left.scores["stripes"].items():
        (line,) = [line for line in board.splitlines() if line.split()[:1] == [gene]]
        low, usual, high = row["reconstructed"]
        assert f" {usual} ({high}-{low}) " in line
        assert line.endswith(f"{row['correlation']:.3f}" if "known" in row else "-")
        assert ("not in the fit" in line) != row["in_fit"]
    assert sum(left.scores["seconds"].values()) == pytest.approx(2 * left.scores["seconds"]["total"])


def test_an_undefined_score_is_said(simulated):
    board = scoreboard_text(simulated.scores | {"nested_loo_acc": None})
    assert "undefined  nested" in board


def test_the_picture_holds_the_patterns():
    coordinates = half_ellipsoid(300)
    x, y, z = coordinates.T
    predicted = pd.DataFrame({"alone": x, "seen": y, "unseen": z, "second": x + z})
    known = pd.DataFrame({"seen": -y, "unseen": -z})
    figure = draw_gallery(
        predicted,
        known,
        ["seen", "alone", "unseen", "second"],
        coordinates,
        title="all",
        beside="truth",
        correlations=pd.Series({"seen": -1.0, "unseen": 0.25}),
        landmarks=["seen"],
    )
    drawn = {}
    for ax in figure.axes:
        for dots in [item for item in ax.collections if isinstance(item, EllipseCollection)]:
            drawn[ax.get_title()] = dots
    assert list(drawn) == [
        "alone, not in the truth",
        "second, not in the truth",
        "seen, in the fit, r = -1.00",
        "seen, truth",
        "unseen, not in the fit, r = 0.25",
        "unseen, truth",
    ]
    offsets = np.asarray(drawn["unseen, truth"].get_offsets())
    np.testing.assert_allclose(drawn["unseen, truth"].get_array(), -offsets[:, 1])
    np.testing.assert_allclose(drawn["unseen, truth"].get_clim(), np.quantile(-z, [0.01, 0.99]))
    assert figure.get_suptitle() == "all"


def test_what_cannot_be_done_leaves_nothing(tmp_path):
    with pytest.raises(PerlerInputError, match="landmarks"):
        run_demo(tmp_path / "out", n_genes=60, n_landmarks=59, progress=False)
    with pytest.raises(PerlerInputError, match=r"scrna_counts\.npz"):
        run_demo(tmp_path / "out", data=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_demo_leaves_whole_files(simulated, tmp_path, monkeypatch):
    """The second demo is stopped while it writes the scoreboard: the first one's is still there."""
    (tmp_path / "scoreboard.json").write_text("before")
    monkeypatch.setattr("perler_jax.app.demo.fit_perler", lambda *_, **__: simulated.fit)
    monkeypatch.setattr(type(simulated.fit), "reconstruct", lambda *_, **__: simulated.result.copy())
    monkeypatch.setattr("perler_jax.app.demo.draw_gallery", lambda *_, **__: Figure())

    def stopped(path, text, **_):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.write_text", stopped)
    sizes = [word for name, size in SIZES.items() for word in (f"--{name}", str(size))]
    assert main(["demo", "-o", str(tmp_path), "--quiet", *sizes]) == 130
    assert (tmp_path / "scoreboard.json").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    load_fit(tmp_path / "fit.npz")
