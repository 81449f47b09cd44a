"""What holds for any input, tried on inputs that hypothesis makes up and shrinks where one fails."""

import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.intake import as_cells
from perler_jax.inputs.tables import read_table
from perler_jax.prediction.mixed_weights import MixedWeights, Points
from perler_jax.prediction.shares import correlations, learn_shares, nested_shares

TRIED = settings(max_examples=60, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)

TRANSFORMS = {
    "counts": lambda counts, total: counts,
    "linear": lambda counts, total: total * counts / counts.sum(axis=1, keepdims=True),
    "log1p": lambda counts, total: np.log1p(total * counts / counts.sum(axis=1, keepdims=True)),
    "log2": lambda counts, total: np.log2(1 + total * counts / counts.sum(axis=1, keepdims=True)),
}


@TRIED
@given(
    seed=SEEDS,
    size=st.tuples(st.integers(20, 80), st.integers(5, 60)),
    depth=st.floats(0.5, 30.0),
    spread=st.floats(0.05, 1.0),
    total=st.sampled_from([100.0, 1e4, 1e6]),
    kept=st.floats(0.3, 1.0),
    scale=st.sampled_from(sorted(TRANSFORMS)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_scale_is_right_or_refused(seed, size, depth, spread, total, kept, scale, dtype):
    """Whatever the depths, the genes that were kept and the total: never another scale without a word."""
    rng = np.random.default_rng(seed)
    rates = (
        rng.lognormal(0, 1, size[1]) * rng.lognormal(0, 0.5, size) * rng.lognormal(0, spread, (size[0], 1))
    )
    counts = rng.poisson(depth * rates).astype(float)
    counts[:, 0] += 1.0  # no row is empty
    values = TRANSFORMS[scale](counts, total)[:, : max(3, int(kept * size[1]))].astype(dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PerlerWarning)  # a warning is a word
            found = as_cells(values, genes=[f"gene{i}" for i in range(values.shape[1])])
    except (PerlerInputError, PerlerWarning):
        return
    assert found.scale == scale


TEXTS = st.one_of(
    st.sampled_from(
        ["nan", "NA", "null", "None", "true", "1e5", "001", "Sept2", "MARCH1", "-", "a b", "é", "基因"]
    ),
    st.text(
        st.characters(whitelist_categories=("L", "N"), whitelist_characters="-_.()/"), min_size=1, max_size=8
    ),
)


@TRIED
@given(
    rows=st.lists(TEXTS, min_size=1, max_size=6, unique=True),
    columns=st.lists(TEXTS, min_size=2, max_size=5, unique=True),
    seed=SEEDS,
    ending=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
def test_names_and_numbers_of_a_table_come_back_as_they_were_written(
    tmp_path_factory, rows, columns, seed, ending
):
    values = np.random.default_rng(seed).integers(0, 50, (len(rows), len(columns)))
    path = tmp_path_factory.mktemp("table") / f"table{ending}"
    pd.DataFrame(values, rows, columns).rename_axis("gene").to_csv(path, sep="\t" if "tsv" in ending else ",")
    found = read_table(path)
    assert [str(name) for name in found.index] == rows
    assert [str(name) for name in found.columns] == columns
    np.testing.assert_array_equal(found.to_numpy(float), values)


def weights_of(rng, n_cells, n_locations, scale):
    near = jnp.asarray(rng.normal(size=(n_cells, 2, 3)) * scale)
    far = jnp.asarray(rng.normal(size=(n_locations, 2, 3)) * scale)
    points = Points(jnp.asarray([0.5, 0.0, 0.2]), jnp.asarray([0.0, 2.0, 0.3]), jnp.asarray([0, 1, 1]))
    return MixedWeights(points, jnp.asarray([0.5, 0.3, 0.2]), near, far)


@TRIED
@given(seed=SEEDS, n_cells=st.integers(2, 40), n_locations=st.integers(1, 30), scale=st.floats(0.01, 30.0))
def test_mixed_weights_average(seed, n_cells, n_locations, scale):
    """They sum to the shares of the points that reach a location, and follow the order of cells."""
    rng = np.random.default_rng(seed)
    source = weights_of(rng, n_cells, n_locations, scale)
    values = rng.normal(size=(n_cells, 2)).astype(np.float32)
    found = np.asarray(source.total(jnp.asarray(values)))
    sums = np.asarray(source.total(jnp.ones((n_cells, 1))))
    some = [0.0, 0.2, 0.3, 0.5, 0.7, 0.8, 1.0]  # far from all cells a weight is too small for its number type
    assert (np.abs(sums - np.array(some)).min(axis=1) < 1e-5).all()
    assert scale > 2.0 or np.allclose(sums, 1.0, atol=1e-5)
    assert (found >= sums * np.minimum(values.min(axis=0), 0) - 1e-4).all()
    assert (found <= sums * np.maximum(values.max(axis=0), 0) + 1e-4).all()
    order = rng.permutation(n_cells)
    np.testing.assert_allclose(source.take(order).total(jnp.asarray(values[order])), found, atol=1e-4)
    np.testing.assert_allclose(source.total(jnp.asarray(values + 1.0)), found + sums, atol=1e-4)


@TRIED
@given(
    seed=SEEDS,
    n_genes=st.integers(2, 12),
    n_experts=st.integers(1, 5),
    n_polishes=st.integers(1, 3),
    units=st.floats(1e-3, 1e3),
)
def test_shares_are_shares(seed, n_genes, n_experts, n_polishes, units):
    """None is negative, all sum to one, units of a gene do not matter, a fold has no say in its own."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(n_genes, 50))
    predicted = maps[:, None] * rng.uniform(0, 1, (1, n_experts * n_polishes, 1))
    predicted = predicted + rng.normal(size=(n_genes, n_experts * n_polishes, 50))
    columns = np.concatenate([predicted, maps[:, None]], axis=1)
    columns -= columns.mean(axis=2, keepdims=True)
    grams = columns @ columns.transpose(0, 2, 1)
    shares = learn_shares(grams, n_polishes)
    for each in (shares.experts, shares.polishes):
        assert (each >= 0).all()
        np.testing.assert_allclose(each.sum(), 1.0)
    scaled = grams.copy()
    scaled[0] *= units
    np.testing.assert_allclose(learn_shares(scaled, n_polishes).experts, shares.experts, atol=1e-6)
    assert np.abs(correlations(grams, shares.flat)).max() <= 1 + 1e-9
    folds = [np.array([gene]) for gene in range(n_genes)]
    without = nested_shares(grams, n_polishes, folds)[0]
    changed = grams.copy()
    changed[0] = np.diag(rng.uniform(1, 2, len(changed[0])))  # another gene altogether
    np.testing.assert_array_equal(nested_shares(changed, n_polishes, folds)[0].flat, without.flat)
