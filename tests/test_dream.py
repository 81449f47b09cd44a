"""DREAM scores: by hand, against loops, and at the values that are known for the fly data."""

import numpy as np
import pytest

from perler_jax.datasets import load_fly
from perler_jax.errors import PerlerInputError
from perler_jax.scores.distmap import best_locations, binarise_cells
from perler_jax.scores.dream import SilverStandard, dream_scores, silver_standard
from tests.test_distmap import oracle_matthews

FORMS = ("organisers", "drop_first")


@pytest.fixture
def embryo():
    """A standard of 30 cells on 40 locations with 6 landmarks, some cells ambiguous."""
    rng = np.random.default_rng(0)
    cells, locations = rng.random((30, 6)) < 0.5, rng.random((40, 6)) < 0.5
    genes = [f"gene{i}" for i in range(6)]
    standard = silver_standard(cells, locations, rng.normal(size=(40, 3)), genes, n_ranks=4)
    assert 3 < standard.ambiguous.sum() < 27
    return standard


def oracle(standard, panel, submitted, form):
    """The definitions, cell by cell and gene by gene."""
    columns = [list(standard.genes).index(gene) for gene in panel]
    cells = range(len(submitted))

    def distance(place, cell):
        return np.sqrt(
            ((standard.coordinates[place] - standard.coordinates[standard.locations[cell, 0]]) ** 2).sum()
        )

    p = np.array(
        [
            np.mean([distance(place, n) for place in standard.locations[n]])
            / np.mean([distance(place, n) for place in submitted[n]])
            for n in cells
        ]
    )
    scored = [n for n in cells if not standard.ambiguous[n]]
    total = p.sum() if form == "organisers" else p[scored].sum()
    s1 = 0.0
    for n in scored:
        true, first = standard.locations[n, 0], submitted[n, 0]
        agreement = oracle_matthews(
            standard.locations_on[true, columns].astype(int),
            standard.locations_on[first, columns].astype(int),
        )
        s1 += p[n] / total * agreement
    m, c = [], []
    for gene in columns:
        rna = np.array([standard.cells_on[n, gene] for n in scored]).astype(int)
        for places, into in ((standard.locations, m), (submitted, c)):
            shown = np.array([standard.locations_on[places[n, 0], gene] for n in scored]).astype(int)
            into.append(oracle_matthews(shown, rna))
    return s1, np.mean(p[scored]), np.dot(m, c) / np.sum(m)


def test_by_hand():
    """Four locations on a line, two cells; the first entry is right, the second two places off."""
    locations_on = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1]], bool)
    cells_on = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], bool)
    standard = SilverStandard(
        genes=np.array(["a", "b", "c"]),
        locations=np.array([[0, 1], [2, 3], [0, 1]]),
        ambiguous=np.array([False, False, True]),
        cells_on=cells_on,
        locations_on=locations_on,
        coordinates=np.array([[0.0], [1.0], [2.0], [3.0]]),
    )
    submitted = np.array([[0, 1], [0, 1], [3, 2]])
    # Mean distance to the best location: 1/2 for the true pair, 1/2, 3/2, 5/2 for the submitted ones, so that
    # p = 1, 1/3, 1/5. In situ, location 0 equals itself (MCC 1).
    first = dream_scores(standard, ["a", "b", "c"], submitted)
    assert first.s1 == pytest.approx((1 - 1 / 3) / (1 + 1 / 3 + 1 / 5))
    assert first.s2 == pytest.approx((1 + 1 / 3) / 2)
    second = dream_scores(standard, ["a", "b", "c"], submitted, form="drop_first")
    assert second.s1 == pytest.approx((1 - 1 / 3) / (1 + 1 / 3))
    # Cells 0 and 1 differ in each gene as their true places do: m = 1. Both are put at location 0: c = 0.
    assert first.s3 == second.s3 == 0.0
    assert dream_scores(standard, ["a", "b"], standard.locations).s3 == pytest.approx(1.0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("panel", [["gene0", "gene4", "gene2"], [f"gene{i}" for i in range(6)]])
def test_equal_to_loops(embryo, form, panel):
    rng = np.random.default_rng(1)
    submitted = np.stack([rng.permutation(40)[:5] for _ in range(30)])
    found = dream_scores(embryo, panel, submitted, form=form)
    np.testing.assert_allclose((found.s1, found.s2, found.s3), oracle(embryo, panel, submitted, form))


def test_a_fold_is_scored_as_its_cells_alone(embryo):
    fold = np.setdiff1d(np.arange(30), [0, 1, 5, 11, 17])
    submitted = np.stack([np.random.default_rng(2).permutation(40)[:4] for _ in fold])
    part = embryo.take(fold)
    np.testing.assert_array_equal(part.locations, embryo.locations[fold])
    found = dream_scores(part, embryo.genes, submitted)
    expected = oracle(part, embryo.genes, submitted, "organisers")
    assert np.isfinite(expected).all()
    np.testing.assert_allclose((found.s1, found.s2, found.s3), expected)


def test_unusable_entries_are_refused(embryo):
    genes, right = embryo.genes, embryo.locations
    for wrong, message in (
        (right[:29], "of 30 cells, found 29"),
        (right + 40, "count from zero"),
        (np.repeat(right[:, :1], 4, axis=1), "repeats in 30 cells"),
        (right[:, :1], "two or more distinct"),
    ):
        with pytest.raises(PerlerInputError, match=message):
            dream_scores(embryo, genes, wrong)
    with pytest.raises(PerlerInputError, match="Gene0"):
        dream_scores(embryo, ["Gene0", "gene1"], right)
    with pytest.raises(PerlerInputError, match="distinct landmarks"):
        dream_scores(embryo, ["gene1", "gene1"], right)
    with pytest.raises(PerlerInputError, match="organisers or drop_first"):
        dream_scores(embryo, genes, right, form="bootstrap")
    with pytest.raises(PerlerInputError, match="not tied"):
        dream_scores(embryo.take(embryo.ambiguous), genes, right[embryo.ambiguous])
    with pytest.raises(PerlerInputError, match="of 0 and 1"):
        silver_standard(np.full((3, 6), 0.5), embryo.locations_on, embryo.coordinates, genes)
    with pytest.raises(PerlerInputError, match="5 names"):
        silver_standard(embryo.cells_on, embryo.locations_on, embryo.coordinates, genes[:5])


@pytest.fixture(scope="module")
def fly_standard(fly_directory):
    fly = load_fly(fly_directory)
    landmarks = list(fly.reference.var_names)
    in_situ = fly.binary_reference[landmarks].to_numpy().astype(bool)
    counts = fly.cells[:, landmarks].X.toarray().astype(np.float64)
    expression = np.log2(1 + counts * 134910 / fly.cells.obs["norm_total"].to_numpy()[:, None])
    rna = binarise_cells(expression, in_situ, quantiles=(0.23,)).on
    return silver_standard(rna, in_situ, fly.reference.obsm["spatial"], landmarks)


def test_perfect_entry_on_the_fly(fly_standard):
    panel = fly_standard.genes[:60]
    organisers, dropped = (
        dream_scores(fly_standard, panel, fly_standard.locations, form=form) for form in FORMS
    )
    assert fly_standard.ambiguous.sum() == 287
    assert organisers.s1 == pytest.approx(0.779, abs=5e-4)
    assert dropped.s1 == pytest.approx(1.0)
    assert organisers.s2 == dropped.s2 == 1.0


@pytest.mark.parametrize(
    ("n", "expected"), [(60, (0.657, 0.915, 0.611)), (40, (0.618, 0.739, 0.649)), (20, (0.591, 0.606, 0.754))]
)
def test_random_panels_of_distmap_on_the_fly(fly_standard, n, expected):
    """DistMap with random panels of its own binarisation: within three spreads of the known values."""
    scores = []
    for seed in range(4):
        columns = np.random.default_rng(seed).choice(84, n, replace=False)
        best = best_locations(fly_standard.cells_on[:, columns], fly_standard.locations_on[:, columns])
        found = dream_scores(fly_standard, fly_standard.genes[columns], best.locations)
        scores.append((found.s1, found.s2, found.s3))
    spread = np.maximum(np.std(scores, axis=0, ddof=1), 0.005)
    assert np.all(np.abs(np.mean(scores, axis=0) - expected) < 3 * spread)


def test_random_locations_on_the_fly(fly_standard):
    rng = np.random.default_rng(0)
    submitted = np.stack([rng.choice(3039, 10, replace=False) for _ in range(1297)])
    found = dream_scores(fly_standard, fly_standard.genes[::2], submitted)
    np.testing.assert_allclose((found.s1, found.s2, found.s3), (0.15, 0.24, 0.0), atol=0.03)
