"""Scales: in whatever form a table comes, its numbers are right or it is refused, never wrong in silence."""

import dataclasses
import logging
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perler_jax import load_fit
from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.interface import speaking
from perler_jax.inputs.scales import known_scale
from perler_jax.perler import fit_perler
from perler_jax.preprocessing import preprocess_cells, preprocess_reference
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo

N_CELLS, N_GENES = 120, 40
CELLS = [f"cell{i}" for i in range(N_CELLS)]
GENES = [f"gene{i}" for i in range(N_GENES)]


def draw_counts(seed=0):
    """Counts of cells whose depths differ several-fold, no cell and no gene empty."""
    rng = np.random.default_rng(seed)
    rates = rng.lognormal(0.0, 1.2, N_GENES) * rng.lognormal(0.0, 0.6, (N_CELLS, N_GENES))
    counts = rng.poisson(rates * rng.lognormal(0.3, 0.5, (N_CELLS, 1)))
    counts[np.arange(N_CELLS), np.arange(N_CELLS) % N_GENES] += 1
    return counts.astype(float)


COUNTS = draw_counts()
TOTALS = COUNTS.sum(axis=1, keepdims=True)


def normalised(total):
    return COUNTS / TOTALS * total


FORMS = {
    "counts": COUNTS,
    "counts by a constant": COUNTS * 0.93,
    "cp10k": normalised(1e4),
    "shares": normalised(1.0),
    "median": normalised(np.median(TOTALS)),
    "log1p of cp10k": np.log1p(normalised(1e4)),
    "log1p of median": np.log1p(normalised(np.median(TOTALS))),
    "log2 of cp10k": np.log2(1 + normalised(1e4)),
    "log1p of counts": np.log1p(COUNTS),
    "log2 of counts": np.log2(1 + COUNTS),
    "log1p, three decimals": np.log1p(normalised(1e4)).round(3),
}
SCALES = {
    "counts": "counts",
    "counts by a constant": "counts",
    "cp10k": "linear",
    "shares": "linear",
    "median": "linear",
    "log1p of cp10k": "log1p",
    "log1p of median": "log1p",
    "log2 of cp10k": "log2",
    "log1p of counts": "log1p",
    "log2 of counts": "log2",
    "log1p, three decimals": "log1p",
}


def in_anndata(matrix, layer=None):
    empty = None if layer is None else {layer: matrix}
    table = anndata.AnnData(np.zeros(matrix.shape) if layer else matrix, layers=empty)
    table.obs_names, table.var_names = CELLS, GENES[: matrix.shape[1]]
    return table


def backed(matrix, folder):
    in_anndata(matrix).write_h5ad(folder / "cells.h5ad")
    return anndata.read_h5ad(folder / "cells.h5ad", backed="r")


CONTAINERS = {
    "dense": lambda values, _: (in_anndata(values), {}),
    "csr": lambda values, _: (in_anndata(sp.csr_matrix(values)), {}),
    "csc": lambda values, _: (in_anndata(sp.csc_matrix(values)), {}),
    "layer": lambda values, _: (in_anndata(sp.csr_matrix(values), "mine"), {"layer": "mine"}),
    "table": lambda values, _: (pd.DataFrame(values, CELLS, GENES[: values.shape[1]]), {}),
    "array": lambda values, _: (values, {"genes": GENES[: values.shape[1]], "cells": CELLS}),
    "backed dense": lambda values, folder: (backed(values, folder), {}),
    "backed csr": lambda values, folder: (backed(sp.csr_matrix(values), folder), {}),
    "backed csc": lambda values, folder: (backed(sp.csc_matrix(values), folder), {}),
}


def logs_of(cells):
    """log2(1 + x) as the model takes it."""
    return np.asarray(preprocess_cells(cells).apply(cells.dense(cells.genes)))


@pytest.mark.parametrize(
    ("container", "dtype"), [*((name, np.float32) for name in CONTAINERS), ("dense", float), ("csr", float)]
)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_numbers_of_the_counts(form, container, dtype, tmp_path):
    source, options = CONTAINERS[container](FORMS[form].astype(dtype), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PerlerWarning)
        cells = as_cells(source, **options)
    assert cells.scale == SCALES[form]
    expected = logs_of(as_cells(COUNTS, genes=GENES))
    np.testing.assert_allclose(logs_of(cells), expected, atol=0.05 if "decimals" in form else 2e-4)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, np.float16, bool])
def test_whole_numbers_of_any_type_are_counts(dtype):
    values = COUNTS.astype(dtype)
    cells = as_cells(sp.csr_matrix(values) if dtype != np.float16 else values, genes=GENES)
    assert cells.scale == "counts"
    np.testing.assert_array_equal(cells.dense(GENES), values.astype(float))


@pytest.mark.parametrize("form", FORMS)
def test_a_part_of_the_genes_gives_the_same_scale(form):
    """Totals are lost where genes were left out after normalising; multiples of one number are not."""
    if form == "log1p, three decimals":
        pytest.skip("covered by the decimals test")
    some = np.arange(0, N_GENES, 2)
    cells = as_cells(FORMS[form][:, some], genes=[GENES[i] for i in some])
    assert cells.scale == SCALES[form]
    if "counts" not in form:
        target = TOTALS.max() / TOTALS
        np.testing.assert_allclose(logs_of(cells), np.log2(1 + COUNTS * target)[:, some], atol=2e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_map_of_located_counts_is_read_as_cells_are(form):
    reference = as_reference(FORMS[form], genes=GENES)
    assert reference.scale == SCALES[form]
    found = preprocess_reference(reference).apply(np.asarray(reference.values))
    # Counts are not brought to one depth; what was normalised comes to the median depth.
    expected = np.log2(1 + (COUNTS if "counts" in form else normalised(np.median(TOTALS))))
    np.testing.assert_allclose(found, expected, atol=0.1 if "decimals" in form else 0.05)


@pytest.mark.parametrize(
    "form", ["counts", "counts by a constant", "cp10k", "log1p of cp10k", "log2 of counts"]
)
def test_median_normalisation_makes_all_givings_of_a_map_agree(form):
    reference = as_reference(FORMS[form], genes=GENES, normalisation="median")
    record = preprocess_reference(reference)
    assert record.describe()["normalisation"] == "median"
    expected = np.log2(1 + normalised(np.median(TOTALS)))
    np.testing.assert_allclose(record.apply(np.asarray(reference.values)), expected, atol=0.05)


def smoothed(values):
    """Means over rows that follow one another: what imputation leaves."""
    return (values + np.roll(values, 1, axis=0) * 0.7 + np.roll(values, 2, axis=0) * 0.4) / 2.1


TELLS_NOTHING = {
    "smoothed logarithms of some genes": np.log1p(smoothed(normalised(1e4)))[:, ::2],
    "logarithms of gene-length-normalised values": np.log2(
        1 + normalised(1e4) * np.random.default_rng(0).lognormal(0, 1, N_GENES)
    )[:, ::2],
    "smoothed linear values of few genes": smoothed(normalised(1e4))[:, ::2],
    "counts less a tenth of ambient ones, few genes": np.maximum(
        COUNTS - 0.1 * TOTALS * COUNTS.sum(0) / COUNTS.sum(), 0.0
    )[:, ::2],
}


@pytest.mark.parametrize("form", TELLS_NOTHING)
def test_cells_that_tell_nothing_are_refused(form):
    with pytest.raises(PerlerInputError, match=r"found a maximum of .*; say scale='.*' or scale='.*'"):
        as_cells(TELLS_NOTHING[form], genes=GENES[::2])


def test_below_zero_is_refused_unless_said():
    scaled = (COUNTS - COUNTS.mean(axis=0)) / COUNTS.std(axis=0)
    with pytest.raises(PerlerInputError, match=r"below zero as after centring.*scale='centred'"):
        as_cells(scaled, genes=GENES)
    cells = as_cells(scaled, genes=GENES, scale="centred")
    np.testing.assert_array_equal(logs_of(cells), scaled)


def test_a_logarithm_taken_twice_is_refused():
    with pytest.raises(PerlerInputError, match="it was taken twice"):
        as_cells(np.log1p(np.log1p(normalised(1e4))), genes=GENES)


def test_corrected_counts_lie_just_below_whole_numbers():
    rng = np.random.default_rng(3)
    corrected = COUNTS * (1 - rng.beta(1, 30, COUNTS.shape))
    cells = as_cells(corrected, genes=GENES)
    assert cells.scale == "counts"
    assert cells.reading.raw
    assert "just below whole numbers" in cells.reading.sentence


def test_intensities_of_order_one_need_no_scale(caplog):
    """In situ atlases: log2(1 + h) and h look alike, so that the reading matters little; it is said."""
    images = np.random.default_rng(0).beta(1, 3, (60, 12))
    with caplog.at_level(logging.INFO, "perler_jax"):
        assert as_reference(images, genes=GENES[:12]).scale == "linear"
    assert "the choice matters little" in caplog.text
    assert as_reference(images.round(2), genes=GENES[:12]).scale == "linear"
    assert as_reference(np.rint(images * 255), genes=GENES[:12]).scale == "counts"
    assert as_reference(images * 255, genes=GENES[:12]).scale == "linear"
    assert as_reference((images > 0.3).astype(float), genes=GENES[:12]).scale == "binary"
    with pytest.raises(PerlerInputError, match="reference whose values tell their scale"):
        as_reference(images * 12, genes=GENES[:12])


def test_scanpys_mark_settles_what_numbers_leave_open():
    open_case = TELLS_NOTHING["smoothed logarithms of some genes"]
    for mark, scale in (({"base": None}, "log1p"), ({}, "log1p"), ({"base": 2}, "log2")):
        table = in_anndata(open_case)
        table.uns["log1p"] = mark
        assert as_cells(table).scale == scale
    table = in_anndata(open_case)
    table.uns["log1p"] = {"base": 10}
    with pytest.raises(PerlerInputError, match="tell their scale"):
        as_cells(table)
    whole = in_anndata(COUNTS)  # the mark stays when counts are put back into X
    whole.uns["log1p"] = {"base": None}
    assert as_cells(whole).scale == "counts"
    whole.layers["cp10k"] = normalised(1e4)
    assert as_cells(whole, layer="cp10k").scale == "linear"


def test_what_is_said_is_taken_and_contradictions_are_told():
    logs = FORMS["log1p of cp10k"]
    for scale in ("counts", "linear", "log2"):
        with pytest.warns(PerlerWarning, match=rf"taken as {scale}, as said, but e\^x - 1 .*'log1p'"):
            assert as_cells(logs, genes=GENES, scale=scale).scale == scale
    with pytest.warns(PerlerWarning, match="is called 'log2' now"):
        assert known_scale("log") == "log2"
    with warnings.catch_warnings():
        warnings.simplefilter("error", PerlerWarning)
        for form, scale in SCALES.items():
            said = as_cells(FORMS[form], genes=GENES, scale=scale)
            np.testing.assert_allclose(logs_of(said), logs_of(as_cells(FORMS[form], genes=GENES)))


def test_a_scale_that_is_said_later_replaces_the_reading():
    for read in (as_cells, as_reference):
        counts = read(COUNTS, genes=GENES)
        logs = dataclasses.replace(counts, values=FORMS["log2 of cp10k"], scale="log2")
        assert (logs.scale, logs.reading.scale) == ("log2", "log2")
        assert "2^x - 1" in logs.reading.sentence


def test_the_decision_is_one_sentence_alike_on_both_sides(caplog):
    with caplog.at_level(logging.INFO, "perler_jax"):
        cells, reference = as_cells(COUNTS, genes=GENES), as_reference(COUNTS, genes=GENES)
    assert len(caplog.messages) == 2
    for side, message in zip(("cells", "reference"), caplog.messages, strict=True):
        low, high = TOTALS.min(), TOTALS.max()
        assert message == f"{side}: read as counts: whole numbers, totals from {low:.0f} to {high:.0f}"
    assert cells.reading.sentence == reference.reading.sentence
    assert cells.take_cells([3, 4, 5]).reading == cells.reading


def test_a_layer_of_counts_beside_logarithms_is_mentioned(caplog):
    table = in_anndata(FORMS["log1p of cp10k"])
    table.layers["counts"] = COUNTS
    with caplog.at_level(logging.INFO, "perler_jax"):
        assert as_cells(table).scale == "log1p"
    assert "layer='counts' takes that" in caplog.text


def test_errors_name_the_argument_of_the_interface_in_use():
    open_case = TELLS_NOTHING["smoothed logarithms of some genes"]
    for interface, words in (("fit", "cells_scale='log1p'"), ("command line", "--cells-scale log1p")):
        with speaking(interface), pytest.raises(PerlerInputError, match=words):
            as_cells(open_case, genes=GENES[::2])


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(
        seed=0, n_locations=150, n_cells=200, n_genes=40, n_landmarks=15, unspatial_fraction=0
    )


@pytest.fixture(scope="module")
def layered(embryo):
    table = embryo.cells.copy()
    table.layers["counts"] = table.X.copy()
    logs = table.X.toarray()
    table.X = np.log1p(logs / logs.sum(axis=1, keepdims=True) * 1e4)
    return table


def quick(cells, reference, **options):
    return fit_perler(
        cells,
        reference,
        settings=PerlerSettings(n_metagenes=8),
        weights=(0.1, 0.4),
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def saved(embryo, layered, tmp_path_factory):
    fit = quick(layered, embryo.reference, cells_layer="counts")
    path = tmp_path_factory.mktemp("fits") / "fit.npz"
    fit.save(path)
    return fit, path


def test_a_fit_says_how_its_inputs_were_read(saved):
    fit, path = saved
    for each in (fit, load_fit(path)):
        told = each.provenance()["read_as"]
        assert told["cells"].startswith("counts: whole numbers, totals from")
        assert told["reference"].startswith("linear: so the data themselves say")
        assert told["cells_layer"] == "counts"


def test_a_forgotten_layer_is_taken_or_refused(saved, layered):
    fit, path = saved
    expected = fit.reconstruct().X
    np.testing.assert_allclose(load_fit(path, cells=layered).reconstruct().X, expected, atol=1e-5)
    np.testing.assert_allclose(load_fit(path).reconstruct(cells=layered).X, expected, atol=1e-5)
    without = anndata.AnnData(layered.X, obs=layered.obs[[]], var=layered.var[[]])
    for give in (without, as_cells(layered)):
        with pytest.raises(PerlerInputError, match=r"expected the expression that was fitted .*'counts'"):
            load_fit(path).reconstruct(cells=give)


def test_other_expression_of_the_same_scale_is_refused(saved, layered):
    _, path = saved
    other = layered.layers["counts"].toarray() * 2
    table = pd.DataFrame(other, layered.obs_names, layered.var_names)
    with pytest.raises(PerlerInputError, match=r"found other values: the mean of .* in log2 units"):
        load_fit(path, cells=table)
    shuffled = pd.DataFrame(other[::-1] / 2, layered.obs_names, layered.var_names)
    with pytest.raises(PerlerInputError, match="found other values"):
        load_fit(path, cells=shuffled)


def test_the_same_cells_in_another_order_and_among_others(saved, layered):
    fit, path = saved
    expected = fit.reconstruct().X
    np.testing.assert_allclose(load_fit(path).reconstruct(cells=layered[::-1]).X, expected, atol=1e-5)
    more = anndata.concat([layered[100:], layered[:100].copy(), layered[:3].copy()], join="outer")
    more.obs_names = [*more.obs_names[:-3], "x", "y", "z"]
    np.testing.assert_allclose(load_fit(path).reconstruct(cells=more).X, expected, atol=1e-5)
    with pytest.raises(PerlerInputError, match="cells without 1 of them"):
        load_fit(path).reconstruct(cells=layered[1:])


def test_scale_and_layer_in_the_one_call(embryo, layered):
    by_layer = quick(layered, embryo.reference, cells_layer="counts").reconstruct().X
    by_logs = quick(layered, embryo.reference).reconstruct().X
    # One depth for both to 2 %, which is a shift of logarithms; the patterns are the same.
    assert np.abs(by_logs - by_layer).max() < 0.03
    shapes = [each - each.mean(axis=0) for each in (by_logs, by_layer)]
    np.testing.assert_allclose(*shapes, atol=2e-3)
    with pytest.warns(PerlerWarning, match="taken as log2"):
        fit = quick(layered, embryo.reference, cells_scale="log2", reference_scale="linear")
    assert (fit.preprocessing.scale, fit.reference.scale) == ("log2", "linear")
    table = embryo.reference.to_df().iloc[:, :4] * 30
    with pytest.raises(PerlerInputError, match="reference_scale="):
        quick(layered, table.clip(0, 25))


def test_units_say_what_the_numbers_are(embryo, layered):
    counts = quick(layered, embryo.reference, cells_layer="counts").reconstruct()
    assert counts.uns["perler"]["units"] == "log2(1 + expression) of the normalised cells"
    centred = layered.copy()
    centred.X = centred.X - centred.X.mean(axis=0)
    made = quick(centred, embryo.reference, cells_scale="centred").reconstruct()
    assert "centred" in made.uns["perler"]["units"]
