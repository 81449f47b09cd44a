"""Pictures from an AnnData: what is coloured by what, and scanpy's habits."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import perler_jax as pj
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.pl.colours import palette_of
from perler_jax.pl.tissue import side_of
from perler_jax.trust import cell_positions
from perler_jax.trust.origins import Tempering


@pytest.fixture(autouse=True)
def _closed():
    mpl.use("agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def tissue():
    rng = np.random.default_rng(0)
    values = np.arange(80.0).reshape(40, 2)
    found = ad.AnnData(sp.csr_matrix(values), var=pd.DataFrame(index=["en", "wg"]))
    found.obsm["spatial"] = rng.uniform(0, 100, (40, 2))
    found.obs["kind"] = pd.Categorical([None, *["b", "a", "c"] * 13])
    found.obs["depth"] = np.linspace(0, 1, 40)
    found.obs["late"] = np.arange(40) > 20
    found.layers["standard_error"] = values[::-1].copy()
    found.uns["perler"] = {"units": "log2(1 + expression) of the normalised cells"}
    return found


@pytest.fixture(scope="module")
def embryo():
    return pj.simulate_embryo(seed=2, n_locations=120, n_cells=100, n_genes=40, n_landmarks=14)


@pytest.fixture(scope="module")
def fit(embryo):
    settings = pj.PerlerSettings(folds=4, n_metagenes=8)
    return pj.fit_perler(embryo.cells, embryo.reference, settings=settings, progress=False)


def discs(ax):
    (found,) = [each for each in ax.collections if isinstance(each, EllipseCollection)]
    return found


def faces(ax):
    return [to_hex(each) for each in discs(ax).get_facecolor()]


def test_a_gene_has_its_values_and_its_unit(tissue, ax):
    assert pj.pl.spatial(tissue, "wg", ax=ax) is ax
    np.testing.assert_array_equal(discs(ax).get_array(), tissue.X.toarray()[:, 1])
    np.testing.assert_array_equal(discs(ax).get_offsets(), tissue.obsm["spatial"])
    assert ax.get_title() == "wg"
    assert ax.child_axes[0].get_ylabel() == "log2(1 + x)"
    assert discs(ax).get_clim() == (1, 79)


def test_limits_layer_and_columns_of_obs(tissue, ax):
    pj.pl.spatial(tissue, "wg", layer="standard_error", vmin=0, vmax=50, title="how sure", ax=ax)
    np.testing.assert_array_equal(discs(ax).get_array(), tissue.layers["standard_error"][:, 1])
    assert discs(ax).get_clim() == (0, 50)
    assert ax.get_title() == "how sure"
    other = Figure().subplots()
    pj.pl.spatial(tissue, "depth", ax=other)
    np.testing.assert_allclose(discs(other).get_array(), tissue.obs["depth"])


def test_categories_have_their_colours_and_a_legend(tissue, ax):
    pj.pl.spatial(tissue, "kind", palette={"a": "red", "b": "lime", "c": "blue"}, ax=ax)
    assert faces(ax)[:4] == [to_hex("0.85"), "#00ff00", "#ff0000", "#0000ff"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c", "none"]
    other = Figure().subplots()
    pj.pl.spatial(tissue, "late", ax=other)
    assert len(set(faces(other))) == 2


def test_scanpys_colours_are_kept(tissue, ax):
    adata = tissue.copy()
    adata.uns["kind_colors"] = ["#010203", "#040506", "#070809"]
    pj.pl.spatial(adata, "kind", ax=ax)
    assert faces(ax)[1] == "#040506"


@pytest.mark.parametrize("n", [2, 8, 9, 31, 100])
def test_every_category_has_a_colour_of_its_own(n):
    adata = ad.AnnData(np.zeros((n, 1)), obs={"kind": pd.Categorical([f"k{i:03}" for i in range(n)])})
    colouring = pj.pl.colours.colouring_of(adata, "kind", None)
    assert len(set(palette_of(adata, colouring, None))) == n
    assert len(palette_of(adata, colouring, "viridis")) == n


def test_several_colours_are_panels_of_one_figure(tissue):
    axes = pj.pl.spatial(tissue, ["en", "kind", "depth", "wg"], ncols=3, title=["1", "2", "3", "4"])
    assert len(axes) == 4
    assert len({id(each.figure) for each in axes}) == 1
    assert [each.get_title() for each in axes] == ["1", "2", "3", "4"]
    assert isinstance(pj.pl.spatial(tissue, ["en"]), list)
    assert not isinstance(pj.pl.spatial(tissue), list)


def test_an_embryo_is_seen_from_the_side_that_its_axes_say():
    axes = {"x": "anterior:posterior", "mirror": "y"}
    assert side_of(axes, 3, None, None) == ("lateral", False)
    assert side_of(axes, 3, "top", None) == ("top", "y")
    assert side_of(axes, 3, "top", False) == ("top", False)
    assert side_of(None, 3, None, None) == ("front", False)
    assert side_of(axes, 2, None, None) == ("front", False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"color": "EN"}, "near misses: EN ~ en"),
        ({"color": []}, "at least one gene"),
        ({"color": "en", "basis": "umap"}, r"obsm\['umap'\]; found spatial"),
        ({"color": "en", "layer": "counts"}, "layers standard_error"),
        ({"color": ["en", "wg"], "title": ["one"]}, "a title for each of 2"),
        ({"color": "kind", "palette": ["red"]}, "expected 3 colours of 'kind'; found 1"),
        ({"color": "kind", "palette": ["red", "reddish", "blue"]}, "reddish is none"),
        ({"color": "kind", "palette": {"a": "red"}}, "none for b, c"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tissue, arguments, words):
    with pytest.raises(PerlerInputError, match=words):
        pj.pl.spatial(tissue, **arguments)


def test_it_is_saved_and_shown(tissue, tmp_path, monkeypatch):
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(True))
    pj.pl.spatial(tissue, "en", save=tmp_path / "en.svg", show=True)
    assert "<svg" in (tmp_path / "en.svg").read_text()
    pj.pl.spatial(tissue, "en", save=str(tmp_path / "bare"))
    assert (tmp_path / "bare.pdf").read_bytes().startswith(b"%PDF")
    assert shown == [True]
    with pytest.raises(PerlerFileError, match="ends in one of"):
        pj.pl.spatial(tissue, "en", save=tmp_path / "en.docx")


def test_a_comparison_shows_what_the_nested_score_is_of(fit):
    for gene in (fit.landmarks[0], fit.landmarks[9]):
        ax = pj.pl.compare(fit, gene)
        assert ax.get_title() == f"{gene}: predicted without it, r = {fit.scores.loc[gene, 'nested']:.2f}"
        panels = [each for each in ax.child_axes if each.get_title()]
        assert [each.get_title() for each in panels] == ["map", "prediction", "prediction - map"]
        shown = np.asarray(discs(panels[0]).get_array())
        own = pj.trust.predictor.landmark_table(fit, fit.cells).reference
        at = int(np.flatnonzero(fit.landmarks == gene)[0])
        np.testing.assert_allclose(np.sort(shown), np.sort(own[:, at]), rtol=1e-6)
        predicted = np.asarray(discs(panels[1]).get_array())
        assert np.corrcoef(shown, predicted)[0, 1] == pytest.approx(fit.scores.loc[gene, "nested"], abs=2e-3)


def test_a_comparison_says_where_the_gene_took_part(embryo, fit):
    plain = pj.fit_perler(embryo.cells, embryo.reference, weights=(0.1, 0.5), progress=False)
    gene = plain.landmarks[3]
    title = pj.pl.compare(plain, gene).get_title()
    assert title == f"{gene}: it took part in the fit, r = {plain.scores.loc[gene, 'reconstruction']:.2f}"
    other = next(name for name in embryo.cells.var_names if name not in plain.landmarks)
    with pytest.raises(PerlerInputError, match="expected a landmark"):
        pj.pl.compare(plain, other)
    with pytest.raises(PerlerInputError, match="held-out landmarks"):
        pj.pl.scores(plain)


def test_scores_are_drawn_best_on_top(fit, ax):
    pj.pl.scores(fit, ax=ax)
    lines = {line.get_label().split(" (")[0]: line for line in ax.lines}
    nested = np.asarray(lines["predicted without it"].get_xdata())
    np.testing.assert_allclose(nested, np.sort(fit.scores["nested"]))
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == list(fit.scores.sort_values("nested").index)
    in_fit = fit.scores.loc[names, "reconstruction"]
    np.testing.assert_allclose(lines["it took part"].get_xdata(), in_fit)


def test_positions_of_all_cells_and_of_one(fit, ax):
    found = cell_positions(fit, tempering=Tempering(2.0), medoid=False)
    pj.pl.positions(found, at="top", view="top", color="entropy", ax=ax)
    (coloured,) = [each for each in ax.collections if each.get_array() is not None]
    np.testing.assert_allclose(np.sort(coloured.get_array()), np.sort(found.table["entropy"]), rtol=1e-5)
    np.testing.assert_allclose(
        np.sort(coloured.get_offsets()[:, 0]), np.sort(found.top[:, 0]), rtol=1e-5, atol=1e-4
    )
    one = pj.pl.positions(found, cell=fit.cell_names[4], mass=0.5)
    assert f"50 % region of {found.table['n_locations_50'].iloc[4]} locations" in one.get_title()
    with pytest.raises(PerlerInputError, match="mean, top; found 'medoid'"):
        pj.pl.positions(found, at="medoid")
    with pytest.raises(PerlerInputError, match="column of numbers"):
        pj.pl.positions(found, color="top_location")
    with pytest.raises(PerlerInputError, match="unknown"):
        pj.pl.positions(found, cell="nobody")
