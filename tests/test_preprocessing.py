"""Normalisation against formulas written out by hand, and against the published fly table's formula."""

import json
import tracemalloc

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.intake import as_cells
from perler_jax.inputs.io import read_cells, read_reference
from perler_jax.landmarks import align_landmarks
from perler_jax.preprocessing import (
    cell_landmarks,
    centre,
    log_normalise,
    log_reference,
    preprocess_cells,
    size_factors,
)

COUNTS = np.array([[0, 3, 1], [2, 0, 0], [5, 4, 1], [1, 1, 2]])
TOTALS = COUNTS.sum(1)  # 4, 2, 10, 4


def cells_of(values=COUNTS, **options):
    return as_cells(values, genes=["a", "b", "c"], **options)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("max_total", [2.5, 5, 1, 2.5]),
        ("median", [1, 2, 0.4, 1]),
        ("cp10k", [2500, 5000, 1000, 2500]),
        ("none", [1, 1, 1, 1]),
    ],
)
def test_size_factors_by_hand(method, expected):
    np.testing.assert_allclose(size_factors(TOTALS, method), expected, rtol=1e-15)


def test_cells_without_molecules_stay_at_zero_and_out_of_the_median():
    factors = size_factors(np.array([0.0, 2.0, 4.0, 6.0]), "median")
    np.testing.assert_allclose(factors, [1, 2, 1, 4 / 6])
    with pytest.raises(PerlerInputError, match="totals of zero only"):
        size_factors(np.zeros(3), "max_total")


@pytest.mark.parametrize("kind", [np.array, sp.csr_array, sp.csc_array, sp.csr_matrix, sp.coo_array])
def test_log_normalise_dense_and_sparse(kind):
    values = kind(COUNTS.astype(np.uint16))
    before = values.copy()
    factors = np.array([0.5, 2.0, 1.0, 3.0])
    result = log_normalise(values, factors)
    dense = result.toarray() if sp.issparse(result) else result
    expected = [
        [np.log2(1 + count * factor) for count in row] for row, factor in zip(COUNTS, factors, strict=True)
    ]
    np.testing.assert_allclose(dense, expected, rtol=1e-14)
    assert sp.issparse(result) == sp.issparse(values)
    if sp.issparse(values):
        assert result.nnz == values.nnz
        assert (values != before).nnz == 0
        assert not np.shares_memory(result.data, values.data)
    else:
        np.testing.assert_array_equal(values, before)


def test_float32_stays_float32():
    factors = np.array([0.5, 2.0, 1.0, 3.0])
    for values in (COUNTS.astype(np.float32), sp.csr_array(COUNTS.astype(np.float32))):
        assert log_normalise(values, factors).dtype == np.float32
    assert log_reference(COUNTS.astype(np.float32)).dtype == np.float32
    assert log_normalise(COUNTS, factors).dtype == np.float64


def test_log_reference_by_hand():
    values = np.array([[0.0, 1.0], [3.0, 0.5]])
    np.testing.assert_allclose(log_reference(values), [[0, 1], [2, np.log2(1.5)]], rtol=1e-15)
    assert values[1, 0] == 3.0


def test_centre_by_hand():
    values = np.array([[1.0, 10.0], [3.0, 40.0]])
    centred, means = centre(values)
    assert means.tolist() == [2, 25]
    assert centred.tolist() == [[-1, -15], [1, 15]]
    assert values[0, 0] == 1


def test_centre_keeps_digits_of_long_float32_columns():
    values = np.full((300_000, 1), 0.1, dtype=np.float32)
    centred, means = centre(values)
    assert means.dtype == centred.dtype == np.float32
    assert abs(float(means[0]) - float(np.float32(0.1))) < 1e-8  # a float32 sum is off by 1e-4 or so


def test_the_record_applies_the_same_to_any_block():
    cells = cells_of()
    record = preprocess_cells(cells)
    assert (record.method, record.target_total, record.scale) == ("max_total", 10.0, "counts")
    expected = np.log2(1 + COUNTS * (10 / TOTALS)[:, None])
    np.testing.assert_allclose(record.apply(cells.dense(["c", "a"])), expected[:, [2, 0]], rtol=1e-14)
    np.testing.assert_allclose(record.apply(sp.csc_array(COUNTS)).toarray(), expected, rtol=1e-14)
    with pytest.raises(PerlerInputError, match="a block of 4 cells"):
        record.apply(COUNTS[:2])


def test_given_totals_replace_the_sums():
    record = preprocess_cells(cells_of(), "max_total", totals=np.array([8, 2, 16, 4]))
    np.testing.assert_allclose(record.factors, [2, 8, 1, 4])
    assert record.target_total == 16
    for totals in (np.array([8, 2, 16]), np.array([8, 0, 16, 4]), np.array([8, np.nan, 16, 4])):
        with pytest.raises(PerlerInputError, match="expected 4 positive totals"):
            preprocess_cells(cells_of(), totals=totals)


def test_log_values_are_left_alone():
    values = COUNTS + 0.5
    cells = cells_of(values, scale="log2")
    record = preprocess_cells(cells)
    assert record.scale == "log2"
    np.testing.assert_array_equal(record.apply(values), values)
    assert record.describe()["formula"] == "as given (log2)"
    with pytest.raises(PerlerInputError, match="of scale 'log2'"):
        preprocess_cells(cells, totals=TOTALS)


def test_the_record_describes_itself_as_json():
    told = json.loads(json.dumps(preprocess_cells(cells_of(), "cp10k").describe()))
    assert told["normalisation"] == "cp10k"
    assert told["target_total"] == 10000
    assert told["formula"] == "log2(1 + count * target_total / total)"
    assert told["size_factors"] == {"min": 1000, "median": 2500, "max": 5000}
    assert "log2(1 + count)" in repr(preprocess_cells(cells_of(), "none"))


def test_empty_cells_of_a_backed_file_are_named(tmp_path):
    counts = COUNTS.copy()
    counts[1] = 0
    anndata.AnnData(sp.csr_array(counts), var=pd.DataFrame(index=["a", "b", "c"])).write_h5ad(
        tmp_path / "x.h5ad"
    )
    cells = read_cells(tmp_path / "x.h5ad", backed=True)
    with pytest.warns(PerlerWarning, match=r"1 of 4 cells with zeros only \(first: 1\)"):
        record = preprocess_cells(cells)
    np.testing.assert_array_equal(record.apply(cells.dense(["a", "b", "c"]))[1], 0)


def test_landmarks_of_cells_are_held_once(monkeypatch):
    """Whole or block by block the same numbers, in one array of their size; the user's stays as it was."""
    monkeypatch.setattr("perler_jax.preprocessing._LANDMARKS_AT_ONCE", 16)
    counts = np.random.default_rng(0).poisson(2.0, (2000, 200)).astype(float)
    before = counts.copy()
    cells = CellExpression(counts, np.arange(2000).astype(str), np.arange(200).astype(str))
    record = preprocess_cells(cells)
    chosen = cells.genes[::-1]
    tracemalloc.start()
    found = cell_landmarks(cells, chosen, record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.nbytes < peak < 1.5 * found.nbytes
    np.testing.assert_allclose(found, centre(record.apply(counts[:, ::-1]))[0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(counts, before)


def test_the_fly_counts_give_the_published_table(fly_directory):
    with np.load(fly_directory / "scrna_counts.npz") as archive:
        norm_total, norm_scale = archive["norm_total"], int(archive["norm_scale"])
    cells = read_cells(fly_directory / "scrna_counts.npz")
    reference = read_reference(fly_directory / "bdtnp_reference.tsv.gz")
    assert isinstance(cells, CellExpression)
    assert (cells.n_cells, cells.n_genes, cells.scale) == (1297, 8924, "counts")
    landmarks = align_landmarks(cells, reference)
    assert landmarks.tolist() == reference.genes.tolist()
    assert len(landmarks) == 84
    record = preprocess_cells(cells, "max_total", totals=norm_total)
    counts = cells.dense(landmarks)
    published = np.round(np.log2(1 + counts * norm_scale / norm_total[:, None]), 4)
    np.testing.assert_array_equal(np.round(record.apply(counts), 4), published)
