"""Reconstruction: gene blocks, layouts and subsets give what the loops give for all genes at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from perler_jax.inputs.intake import as_cells
from perler_jax.mixture import MappingParams
from perler_jax.prediction.assembly import Mapped, make_predictor
from perler_jax.prediction.choice import plain_choice
from perler_jax.prediction.mixed_weights import _gathered
from perler_jax.preprocessing import preprocess_cells
from perler_jax.reconstruction import gene_block_size, reconstruct_blocks, zscore
from tests import oracle

CELLS, LOCATIONS, GENES = 21, 15, 11
POINT = (0.2, 0.4)
LAYOUTS = {"dense": np.asarray, "csr": sp.csr_matrix, "csc": sp.csc_array}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def problem():
    """Counts, both sides in distance coordinates, and the loops' weighted means of log expression."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=(CELLS, GENES)).astype(np.float64)
    near, far = rng.normal(size=(CELLS, 3)), rng.normal(size=(LOCATIONS, 3))
    logs = np.log2(1 + counts * counts.sum(axis=1).max() / counts.sum(axis=1, keepdims=True))
    w = oracle.weights(oracle.mahalanobis(near, far, np.eye(3)), np.ones(LOCATIONS), *POINT)
    return counts, near, far, oracle.weighted_mean(w, logs)


def expression(counts, layout="dense"):
    return as_cells(LAYOUTS[layout](counts), genes=[f"g{i}" for i in range(counts.shape[1])])


def plain_predictor(near, far, dtype):
    """The weighted mean in a space where both sides lie already."""
    ones = jnp.ones(3, dtype)
    mapped = Mapped(MappingParams(ones, 0 * ones, ones), jnp.asarray(near, dtype), jnp.asarray(far, dtype))
    landmarks = (np.array([], dtype=object), np.zeros((CELLS, 0)), np.zeros((LOCATIONS, 0)))
    return make_predictor(plain_choice(*POINT), {True: mapped}, landmarks)


def reconstruct(cells, near, far, genes=None, size=4, dtype=np.float64, sparse=False):
    """Names and values of all blocks, joined."""
    found = list(
        reconstruct_blocks(
            plain_predictor(near, far, dtype),
            cells.gene_blocks(genes, size, sparse=sparse),
            preprocess=preprocess_cells(cells).apply,
            block_size=size,
        )
    )
    names, values = zip(*found, strict=True)
    return np.concatenate(names), np.concatenate(values, axis=1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [4, GENES], ids=["blocks", "whole"])
def test_every_gene_is_the_weighted_mean_of_its_log_expression(problem, layout, size):
    counts, near, far, expected = problem
    names, found = reconstruct(expression(counts, layout), near, far, size=size)
    np.testing.assert_array_equal(names, [f"g{i}" for i in range(GENES)])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_block_may_stay_sparse_and_be_preprocessed_in_parts(problem, layout, monkeypatch):
    monkeypatch.setattr("perler_jax.reconstruction._FLOAT64_ENTRIES", 3 * CELLS)
    counts, near, far, expected = problem
    cells = expression(counts, layout)
    kept = [sp.issparse(block) for _, block in cells.gene_blocks(None, 8, sparse=True)]
    assert all(kept) if layout != "dense" else not any(kept)
    _, found = reconstruct(cells, near, far, size=8, sparse=True)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_subset_is_columns_of_the_whole_in_the_order_asked(problem):
    counts, near, far, expected = problem
    asked = ["g7", "g2", "g10", "g0", "g3"]
    names, found = reconstruct(expression(counts, "csr"), near, far, genes=asked)
    np.testing.assert_array_equal(names, asked)
    np.testing.assert_allclose(found, expected[:, [7, 2, 10, 0, 3]], rtol=1e-10)


def test_all_blocks_run_one_program(problem):
    counts, near, far, _ = problem
    reconstruct(expression(counts), near, far)
    before = _gathered._cache_size()
    reconstruct(expression(counts), near, far, genes=["g1", "g2"])  # narrower than a block
    assert _gathered._cache_size() == before


def test_float32_keeps_its_digits_for_the_pattern(problem):
    """The last digit at 25 is 2e-6; float32 means of the values themselves would lose another digit."""
    _, near, far, _ = problem
    cells = as_cells(
        25.0 + 1e-3 * np.random.default_rng(1).normal(size=(CELLS, 4)), genes=list("abcd"), scale="log2"
    )
    _, exact = reconstruct(cells, near, far)
    _, single = reconstruct(cells, near, far, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-6, rtol=0)  # half of the last digit


def test_inputs_are_left_alone(problem):
    counts, near, far, _ = problem
    cells = expression(counts, "csr")
    before = (cells.values.data.tobytes(), cells.values.indices.tobytes(), near.tobytes(), far.tobytes())
    reconstruct(cells, near, far)
    after = (cells.values.data.tobytes(), cells.values.indices.tobytes(), near.tobytes(), far.tobytes())
    assert after == before


def test_zscores_have_mean_zero_and_spread_one():
    values = np.random.default_rng(2).normal(3.0, 5.0, size=(40, 4))
    values[:, 1] = 7.0
    before = values.tobytes()
    found = zscore(values)
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), [1, 0, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(found[:, 0], (values[:, 0] - values[:, 0].mean()) / values[:, 0].std())
    assert values.tobytes() == before


@pytest.mark.parametrize(
    ("cells", "locations", "genes"),
    [(1297, 3039, 8924), (200_000, 3000, 20_000), (1000, 500_000, 20_000), (100, 100, 50), (30, 20, 3)],
)
def test_block_memory_is_bounded(cells, locations, genes):
    size = gene_block_size(cells, locations, genes)
    assert 1 <= size <= genes
    assert size == min(16, genes) or size * max(cells, locations) * 4 <= 80e6, "at most 80 MB of float32"
    blocks = -(-genes // size)
    assert blocks * size < genes + blocks, "no block is padded by more than it must be"
