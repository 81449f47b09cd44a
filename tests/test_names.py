"""Names of genes: where they are taken from, what would fit better, and repeats."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.files import load_fit
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.landmarks import align_landmarks
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo

SYMBOLS = [f"Gene{i}" for i in range(12)]
IDS = [f"ENSMUSG{i:011d}" for i in range(12)]


def table(names, seed, **columns):
    """20 rows of counts, with names in the index and in columns of var."""
    counts = np.random.default_rng(seed).poisson(3.0, (20, len(names)))
    var = pd.DataFrame(columns, index=pd.Index(names, dtype=object))
    obs = pd.DataFrame(index=[f"row{i}" for i in range(20)])
    return anndata.AnnData(counts, obs, var)


def aligned(cells, reference, of_cells=None, of_reference=None):
    return align_landmarks(
        as_cells(cells, **(of_cells or {})),
        as_reference(reference, scale="linear", **(of_reference or {})),
    )


def test_a_column_of_var_names_the_genes():
    cells, reference = table(IDS, 0, symbol=SYMBOLS), table(SYMBOLS[:6], 1)
    assert aligned(cells, reference, {"gene_key": "symbol"}).tolist() == SYMBOLS[:6]
    found = as_cells(cells, gene_key="symbol")
    assert found.names.gene_key == "symbol"
    np.testing.assert_array_equal(found.dense(["Gene3"])[:, 0], cells.X[:, 3])
    assert cells.var_names.tolist() == IDS  # the input is as it was
    categories = cells.copy()
    categories.var["symbol"] = categories.var["symbol"].astype("category")
    assert as_cells(categories, gene_key="symbol").genes.tolist() == SYMBOLS
    with pytest.raises(PerlerInputError, match=r"a column 'symbols' .*found symbol that may name genes"):
        as_cells(cells, gene_key="symbols")
    with pytest.raises(PerlerInputError, match="an AnnData with gene_key='symbol'; found DataFrame"):
        as_cells(cells.to_df(), gene_key="symbol")
    with pytest.raises(PerlerInputError, match="a ready CellExpression alone; found it with layer, gene_key"):
        as_cells(found, gene_key="symbol")


def test_genes_without_a_name_in_the_column_keep_their_own_and_that_is_said(caplog):
    cells = table(IDS, 0, symbol=[None, "", *SYMBOLS[2:]])
    assert as_cells(cells, gene_key="symbol").genes.tolist() == [*IDS[:2], *SYMBOLS[2:]]
    assert "2 of 12 genes have no name in the column 'symbol'" in caplog.text


def upper(names):
    return [name.upper() for name in names]


def with_raw(adata, genes):
    part = adata[:, genes].copy()
    part.raw = adata
    return part


@pytest.mark.parametrize(
    ("cells", "reference", "told"),
    [
        (
            table(IDS, 0, symbol=SYMBOLS, other=SYMBOLS[::-1]),
            table(SYMBOLS, 1),
            "gene_key='symbol' for the cells",
        ),
        (
            table(SYMBOLS, 0),
            table(IDS, 1, kind=["a"] * 12, name=SYMBOLS),
            "gene_key='name' for the reference",
        ),
        (
            table(IDS, 0, symbol=SYMBOLS),
            table([f"probe{i}" for i in range(12)], 1, target=SYMBOLS),
            "gene_key='symbol' for the cells and gene_key='target' for the reference",
        ),
        (with_raw(table(SYMBOLS, 0), SYMBOLS[:2]), table(SYMBOLS, 1), "pass use_raw=True for the cells"),
        (table(SYMBOLS, 0), with_raw(table(SYMBOLS, 1), SYMBOLS[:2]), "pass use_raw=True for the reference"),
        (
            with_raw(table(IDS, 0, symbol=SYMBOLS), IDS[:2]),
            table(SYMBOLS, 1),
            "use_raw=True and gene_key='symbol' for the cells",
        ),
        (table(SYMBOLS, 0), table(upper(SYMBOLS), 1), r"same case on both sides \(Gene0 ~ GENE0\)"),
        (
            table([f"{name}.{i + 1}" for i, name in enumerate(IDS)], 0),
            table(IDS, 1),
            r"cut off the versions on both sides \(ENSMUSG00000000000\.1 ~ ENSMUSG00000000000\)",
        ),
    ],
)
def test_too_few_landmarks_name_what_would_fit(cells, reference, told):
    with pytest.raises(PerlerInputError, match=rf"at least 3 landmarks .*12 would be shared: .*{told}"):
        aligned(cells, reference)


def test_names_that_fit_nowhere_are_not_made_up():
    with pytest.raises(PerlerInputError) as caught:
        aligned(table(IDS, 0, symbol=SYMBOLS), table([f"Other{i}" for i in range(12)], 1))
    assert "would be shared" not in str(caught.value)


def test_the_advice_works():
    cells, reference = table(IDS, 0, symbol=SYMBOLS), table(SYMBOLS, 1)
    settings = PerlerSettings(n_metagenes=3, folds=3)
    with pytest.raises(PerlerInputError, match="pass cells_gene_key='symbol' for the cells"):
        fit_perler(cells, reference, settings=settings, progress=False)
    fit = fit_perler(cells, reference, cells_gene_key="symbol", weights=(1.0, 0.0), progress=False)
    assert fit.landmarks.tolist() == SYMBOLS


def test_landmarks_that_lie_in_raw_are_told_where_the_minimum_is_reached():
    cells, reference = with_raw(table(SYMBOLS, 0), SYMBOLS[:6]), table(SYMBOLS, 1)
    with pytest.warns(
        PerlerWarning, match=r"6 are dropped .*12 would be shared: pass use_raw=True for the cells"
    ):
        assert len(aligned(cells, reference)) == 6
    assert len(aligned(cells, reference, {"use_raw": True})) == 12
    with pytest.warns(
        PerlerWarning, match=r"found 6 of 6 .*12 would be shared: pass use_raw=True for the ref"
    ):
        assert len(aligned(table(SYMBOLS, 0), with_raw(reference, SYMBOLS[:6]))) == 6
    with pytest.raises(PerlerInputError, match=r"expected \.raw in the AnnData"):
        as_cells(table(SYMBOLS, 0), use_raw=True)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_repeats_beside_the_landmarks_are_made_unique_and_told_once(kind, recwarn):
    names = [*SYMBOLS[:10], "odd", "odd"]
    cells = table(names, 0)
    cells.X = kind(cells.X)
    found = as_cells(cells)
    told = [str(each.message) for each in recwarn if issubclass(each.category, PerlerWarning)]
    assert len(told) == 1
    assert "1 repeated (odd); they were made unique as AnnData does (odd-1)" in told[0]
    unique = cells.copy()
    unique.var_names_make_unique()
    assert found.genes.tolist() == unique.var_names.tolist()
    rest = found.take_cells(np.arange(5))
    reference = as_reference(table(SYMBOLS[:10], 1), scale="linear")
    assert len(align_landmarks(rest, reference)) == 10
    assert len([each for each in recwarn if issubclass(each.category, PerlerWarning)]) == 1


@pytest.mark.parametrize("name", ["odd", "odd-1"])
def test_repeats_among_the_landmarks_are_refused(name):
    names = [*SYMBOLS[:10], "odd", "odd"]
    landmarks = [*SYMBOLS[:10], name]
    with pytest.warns(PerlerWarning, match="made unique"):
        cells = as_cells(table(names, 0)).take_cells(np.arange(9))  # the record goes with the cells
    with pytest.raises(PerlerInputError, match=rf"unique names of landmarks in the cells; .*\({name}\)"):
        align_landmarks(cells, as_reference(table(landmarks, 1), scale="linear"))
    with pytest.warns(PerlerWarning, match="made unique"):
        reference = as_reference(table(names, 1), scale="linear")
    with pytest.raises(PerlerInputError, match="unique names of landmarks in the reference"):
        align_landmarks(as_cells(table(landmarks, 0)), reference)


def test_where_the_names_of_the_reference_are_from_is_kept_in_the_fit(tmp_path):
    embryo = simulate_embryo(seed=0, n_locations=100, n_cells=50, n_genes=40, n_landmarks=20)
    reference = embryo.reference.copy()
    reference.var["symbol"] = reference.var_names
    reference.var_names = [f"probe{i}" for i in range(reference.n_vars)]
    fit = fit_perler(embryo.cells, reference, reference_gene_key="symbol", weights=(1.0, 0.0), progress=False)
    fit.save(tmp_path / "fit.npz")
    loaded = load_fit(tmp_path / "fit.npz")
    assert loaded.reference.names.gene_key == "symbol"
    assert loaded.landmarks.tolist() == fit.landmarks.tolist()
