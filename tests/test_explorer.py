"""The explorer: patterns packed and unpacked, cells per location, what the page holds, what is refused."""

import json
import re
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

from perler_jax.app.cli import main
from perler_jax.app.explore import write_explorer
from perler_jax.app.explorer.codec import pack_patterns
from perler_jax.app.explorer.quantities import _tables
from perler_jax.app.explorer.top_cells import find_top_cells
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import region_evidence
from perler_jax.files import load_fit
from perler_jax.inputs.intake import as_reference
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo

pytest.importorskip("plotly", reason="no plotly (it is in the test group of pyproject.toml)")


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=4, n_cells=120, n_locations=150, n_genes=60, n_landmarks=12)


@pytest.fixture(scope="module")
def fit(embryo):
    settings = PerlerSettings(n_metagenes=9)
    return fit_perler(embryo.cells, embryo.reference, settings=settings, weights=(0.1, 1.0), progress=False)


@pytest.fixture(scope="module")
def result(fit):
    return fit.reconstruct()


def text_of(path):
    return path.read_text(encoding="utf-8")


# Packing


def smooth_patterns(n_genes, seed=0):
    """A few waves in all mixtures, and noise that no two genes share."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, 300)[:, None]
    waves = np.sin(2 * np.pi * x * np.arange(1, 9)) @ rng.normal(size=(8, n_genes))
    return waves * rng.gamma(2.0, 1.0, n_genes) + 5.0 + 0.05 * rng.normal(size=(300, n_genes))


def test_unpacked_patterns_are_as_exact_as_promised():
    values = smooth_patterns(400)
    packed = pack_patterns(values, budget=1e6, target=0.09)
    found = packed.unpack()
    error = np.sqrt(np.mean((found - values) ** 2, axis=0)) / values.std(axis=0)
    assert np.sqrt(np.mean(error**2)) < 0.1
    expected = [np.corrcoef(found[:, g], values[:, g])[0, 1] for g in range(400)]
    np.testing.assert_allclose(packed.agreement(values), expected, atol=1e-6)
    some = np.array([3, 399, 17])
    np.testing.assert_allclose(packed.unpack(some), found[:, some], atol=1e-5)


def test_more_room_is_more_exact_and_none_is_exceeded():
    values = np.random.default_rng(1).normal(size=(200, 300)) + smooth_patterns(300)[:200]
    exact = []
    for budget in (20_000, 40_000, 80_000):
        packed = pack_patterns(values, budget=budget)
        assert packed.n_bytes <= budget
        exact.append(np.median(packed.agreement(values)))
    assert exact[0] < exact[1] < exact[2]
    assert exact[2] > 0.98


def test_values_missing_and_genes_that_do_not_vary():
    values = smooth_patterns(6)
    values[:, 2], values[4, 5] = 7.25, np.nan
    packed = pack_patterns(values, budget=1e6)
    found = packed.unpack()
    np.testing.assert_array_equal(found[:, 2], 7.25)
    assert np.isnan(found[:, 5]).all()
    assert np.isfinite(found[:, :5]).all()
    assert len(packed.agreement(values)) == 4


# Cells of a location


@pytest.mark.parametrize("given", ["nothing", "weights and evidence"])
def test_top_cells_are_those_of_the_dense_weights(embryo, given, monkeypatch):
    options, log_prior = {}, 0.0
    if given != "nothing":
        rng = np.random.default_rng(0)
        area = rng.uniform(1, 3, 150)
        anterior = embryo.reference.obsm["spatial"][:, 0] < 0
        evidence = region_evidence(
            np.where(rng.random(120) < 0.5, "anterior", "posterior"),
            pd.DataFrame({"anterior": anterior, "posterior": ~anterior}),
            error=0.05,
        )
        options = {"location_weights": area, "evidence": evidence}
        log_prior = np.log(area) + np.asarray(evidence.of_cells) @ np.asarray(evidence.of_locations).T
    fit = fit_perler(
        *(embryo.cells, embryo.reference),
        settings=PerlerSettings(n_metagenes=9, dtype="float64"),
        weights=(0.1, 1.0),
        progress=False,
        **options,
    )
    monkeypatch.setattr("perler_jax.app.explorer.top_cells._TILE_ELEMENTS", 120 * 47)  # tiles with a rest
    top = find_top_cells(fit, 5)
    params = fit.parameters
    mapped = fit.reference_metagenes * params["sensitivity"].to_numpy() + params["background"].to_numpy()
    apart = (fit.cell_metagenes[:, None] - mapped) / params["noise"].to_numpy()
    distance = np.sqrt((apart**2).sum(axis=2))
    logits = -0.1 * distance**2 - distance + log_prior
    weights = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    shares = weights / weights.sum(axis=0)
    order = np.argsort(-shares, axis=0)[:5].T
    np.testing.assert_array_equal(top.cells, order)
    np.testing.assert_allclose(top.shares, np.take_along_axis(shares.T, order, axis=1), rtol=1e-4)
    assert find_top_cells(fit, 500).cells.shape == (150, 120)
    with pytest.raises(PerlerInputError, match="at least one"):
        find_top_cells(fit, 0)


# The page


def test_the_page_needs_nothing_but_itself(result, fit, tmp_path):
    page = tmp_path / "page.html"
    report = write_explorer(result, page, fit=fit, title="A <b>tissue</b> & more")
    text = text_of(page)
    assert report.megabytes == pytest.approx(len(text.encode()) / 1e6)
    assert 1 < report.megabytes < 3
    assert report.median > report.lowest_percent > 0.98
    assert "A &lt;b&gt;tissue&lt;/b&gt; &amp; more" in text
    assert "<b>tissue" not in text
    outside = re.sub(r'<script type="text/plain"[^>]*>[^<]*</script>', "", text)
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']|url\(|@import|https?://|\{\{", outside)
    assert "60 genes at 150 locations" in outside


def test_progress_is_shown_if_asked_for(result, fit, tmp_path, capsys):
    write_explorer(result, tmp_path / "page.html", fit=fit, progress=True)
    assert "explorer" in capsys.readouterr().err
    write_explorer(result, tmp_path / "page.html", fit=fit)
    assert capsys.readouterr().err == ""


def test_labels_of_a_transfer_are_columns_of_the_page(result, fit, embryo, tmp_path, capsys):
    kinds = pd.Series(np.where(np.arange(120) % 2, "a", "b"), embryo.cells.obs_names, name="kind")
    types = fit.transfer(kinds)
    result.write_h5ad(tmp_path / "result.h5ad")
    types.write_h5ad(tmp_path / "types.h5ad")
    line = ["explore", str(tmp_path / "result.h5ad"), "--labels", str(tmp_path / "types.h5ad"), "--quiet"]
    assert main(line) == 0
    capsys.readouterr()
    told = json.loads(
        re.search(r'id="page-data">(.*?)</script>', text_of(tmp_path / "result.html"), re.DOTALL)[1]
    )
    columns = {each["name"]: each for each in told["places"]}
    assert set(columns["transferred_kind"]["colours"]) == {"a", "b"}
    assert columns["transferred_kind_entropy"]["kind"] == "number"
    with pytest.raises(PerlerInputError, match="found 149 of others"):
        write_explorer(result, tmp_path / "page.html", labels=types[1:])


def test_only_layers_that_are_named_take_room(result):
    """From 0.13 on anndata keeps X as the layer named None: it must be packed once."""
    extra = result.copy()
    extra.layers["standard_error"] = np.abs(extra.X) + 1.0
    extra.layers["mine"] = np.full(extra.shape, "text")  # not shown, so never read as numbers
    tables, _ = _tables(extra)
    assert set(tables) == {"prediction", "standard_error"}


def test_the_same_result_gives_the_same_page(result, tmp_path):
    for name in ("a.html", "b.html"):
        write_explorer(result, tmp_path / name)
    assert text_of(tmp_path / "a.html") == text_of(tmp_path / "b.html")


def test_size_is_kept_and_some_genes_can_be_chosen(result, tmp_path):
    big = anndata.AnnData(np.random.default_rng(0).normal(size=(400, 900)).astype(np.float32))
    big.obsm["spatial"] = np.random.default_rng(1).random((400, 2))
    coarse = write_explorer(big, tmp_path / "coarse.html", megabytes=2.4)
    fine = write_explorer(big, tmp_path / "fine.html", megabytes=3.2)
    assert coarse.megabytes <= 2.4
    assert fine.megabytes <= 3.2
    assert coarse.median < fine.median
    few = write_explorer(result, tmp_path / "few.html", genes=list(result.var_names[:3]))
    assert few.n_genes == 3


def test_what_cannot_be_shown_is_refused_and_nothing_written(result, fit, tmp_path, monkeypatch):
    def refused(match, table=result, **options):
        with pytest.raises(PerlerInputError, match=match):
            write_explorer(table, tmp_path / "page.html", **options)
        assert list(tmp_path.iterdir()) == []

    bare = result.copy()
    del bare.obsm["spatial"]
    refused("found none; give the fit coordinates", bare)
    broken = result.copy()
    broken.X[3, 4] = np.nan
    refused("1 genes with values missing", broken)
    lost = result.copy()
    lost.obsm["spatial"][0, 0] = np.inf
    refused("values missing", lost)
    refused("1 unknown \\(nosuch\\)", genes=["nosuch", result.var_names[0]])
    refused("found none", genes=[])
    refused("found a fit of 150 locations", result[::2].copy(), fit=fit)
    refused("MB left", megabytes=2)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    refused(r"pip install 'perler_jax\[explore\]'")


def test_the_command_writes_beside_the_result(result, fit, tmp_path, capsys):
    result.write_h5ad(tmp_path / "result.h5ad")
    fit.save(tmp_path / "fit.npz")
    line = ["explore", str(tmp_path / "result.h5ad"), "--fit", str(tmp_path / "fit.npz"), "--quiet"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{tmp_path / 'result.html'}  60 genes at 150 locations, ")
    assert (tmp_path / "result.html").stat().st_size > 1e6
    assert main([*line, "-o", str(tmp_path / "page.txt")]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert main(["explore", str(tmp_path / "nosuch.h5ad"), "-o", str(tmp_path / "other.html")]) == 2
    assert "nosuch.h5ad" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()


# Axes and halves


def page_of(path):
    return json.loads(re.search(r'id="page-data">(.*?)</script>', text_of(path), re.DOTALL)[1])["tissue"]


def test_halves_and_names_are_those_that_are_said(result, tmp_path, capsys):
    assert dict(result.uns["spatial_axes"]) == {
        "x": "anterior:posterior",
        "y": "left:right",
        "z": "ventral:dorsal",
        "mirror": "y",
    }
    path = tmp_path / "page.html"
    write_explorer(result, path)
    assert page_of(path)["mirror"] == 1
    names = [view["name"] for view in page_of(path)["views"]]
    assert names == ["lateral", "dorsal", "ventral", "anterior", "posterior"]
    assert [side[2] for side in page_of(path)["sides"]] == ["anterior", "posterior", "ventral", "dorsal"]
    write_explorer(result, path, mirror="none")
    assert page_of(path)["mirror"] is None
    assert [view["name"] for view in page_of(path)["views"]][:2] == ["left", "right"]
    bare = result.copy()
    del bare.uns["spatial_axes"]
    bare.write_h5ad(tmp_path / "bare.h5ad")
    line = ["explore", str(tmp_path / "bare.h5ad"), "-o", str(path), "--quiet"]
    assert main(line) == 0
    assert page_of(path)["mirror"] is None
    assert [side[2] for side in page_of(path)["sides"]] == ["x", "y", "z"]
    assert main([*line, "--mirror", "x", "--axes", "z=bottom:top", "y=left:right"]) == 0
    assert page_of(path)["mirror"] == 0
    assert [side[2] for side in page_of(path)["sides"]] == ["left", "right", "bottom", "top"]
    capsys.readouterr()
    for wrong, message in (("z", "such as x=anterior:posterior"), ("w=a:b", "found w"), ("x=a", "both ends")):
        assert main([*line, "--axes", wrong]) == 2
        assert message in capsys.readouterr().err


def test_what_is_said_of_the_axes_is_kept_with_a_fit(fit, embryo, tmp_path):
    fit.save(tmp_path / "fit.npz")
    back = load_fit(tmp_path / "fit.npz", cells=embryo.cells)
    assert dict(back.reconstruct(["mix1"]).uns["spatial_axes"]) == dict(embryo.reference.uns["spatial_axes"])
    wrong = embryo.reference.copy()
    wrong.uns["spatial_axes"] = {"mirror": "w"}
    with pytest.raises(PerlerInputError, match="mirror to be x, y, z or none; found 'w'"):
        as_reference(wrong)
