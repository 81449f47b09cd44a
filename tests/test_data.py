"""Labelled inputs: every layout gives the same numbers, and bad input is refused with a helpful sentence."""

import gc
import re
import tracemalloc

import anndata
import jaxtyping
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs import storage
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.labels import name_positions
from perler_jax.inputs.scales import known_scale
from perler_jax.landmarks import align_landmarks

N_CELLS, N_GENES = 23, 11
CELLS = [f"cell-{i}" for i in range(N_CELLS)]
GENES = [f"g.{i}" for i in range(N_GENES)]
LAYOUTS = ["dense", "csr", "csc", "csr_matrix", "backed-dense", "backed-csr", "backed-csc"]


@pytest.fixture
def counts():
    """Integer counts with about half zeros, no empty cell and no empty gene."""
    rng = np.random.default_rng(0)
    values = rng.poisson(0.8, (N_CELLS, N_GENES))
    values[np.arange(N_CELLS), np.arange(N_CELLS) % N_GENES] += 1
    return values


@pytest.fixture
def make(tmp_path):
    """Builds the same table in any layout, through AnnData."""

    def build(values, layout, **options):
        kind = layout.removeprefix("backed-")
        matrix = {"dense": np.array, "csr": sp.csr_array, "csc": sp.csc_array, "csr_matrix": sp.csr_matrix}[
            kind
        ](values)
        adata = anndata.AnnData(matrix, obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))
        if layout.startswith("backed"):
            path = tmp_path / f"{layout}.h5ad"
            adata.write_h5ad(path)
            adata = anndata.read_h5ad(path, backed="r")
        return as_cells(adata, **options)

    return build


def reference_of(genes, n_locations=5, **options):
    values = np.random.default_rng(1).random((n_locations, len(genes)))
    return SpatialReference(values, np.arange(n_locations), np.array(genes), **options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [N_GENES * 4, 2**23])
def test_every_layout_reads_the_same(counts, make, layout, piece, monkeypatch):
    monkeypatch.setattr(storage, "_PIECE", piece)  # several row or column pieces, or all in one
    monkeypatch.setattr(storage, "_PASS_BYTES", piece)  # one or several passes over a backed file
    cells = make(counts, layout)
    gc.collect()  # a backed file must stay open after its AnnData is gone
    assert cells.is_backed == layout.startswith("backed")
    assert cells.scale == "counts"
    assert (cells.n_cells, cells.n_genes) == counts.shape
    wanted = [7, 0, 3]
    dense = cells.dense(cells.genes[wanted])
    assert dense.dtype == np.float64
    np.testing.assert_array_equal(dense, counts[:, wanted])
    rows = [20, 2, 2, 9]
    np.testing.assert_array_equal(cells.dense(["g.7", "g.0"], rows), counts[rows][:, [7, 0]])
    np.testing.assert_array_equal(cells.totals(), counts.sum(1))
    np.testing.assert_allclose(cells.detected(), (counts > 0).mean(0), rtol=1e-15)
    taken = cells.take_cells(["cell-20", "cell-2", "cell-11"])
    assert taken.cells.tolist() == ["cell-20", "cell-2", "cell-11"]
    np.testing.assert_array_equal(taken.dense(GENES), counts[[20, 2, 11]])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gene_blocks_cover_genes_once_in_order(counts, make, layout, monkeypatch):
    monkeypatch.setattr(storage, "_PASS_BYTES", 1000)
    cells = make(counts, layout)
    blocks = list(cells.gene_blocks(None, 4))
    assert [len(names) for names, _ in blocks] == [4, 4, 3]
    assert np.concatenate([names for names, _ in blocks]).tolist() == GENES
    np.testing.assert_array_equal(np.hstack([block for _, block in blocks]), counts)
    (names, block), *_ = cells.gene_blocks(GENES[::-1], N_GENES)
    assert names.tolist() == GENES[::-1]
    np.testing.assert_array_equal(block, counts[:, ::-1])


def test_backed_csr_is_read_in_few_passes(counts, make, monkeypatch):
    cells = make(counts, "backed-csr")
    passes = []
    pieces = storage.pieces
    monkeypatch.setattr(
        storage, "pieces", lambda values: (passes.append(values is cells.values), pieces(values))[1]
    )
    list(cells.gene_blocks(None, 2))
    assert sum(passes) == 1
    monkeypatch.setattr(storage, "_PASS_BYTES", 16 * np.count_nonzero(counts) * 4 // N_GENES + 1)
    passes.clear()
    list(cells.gene_blocks(None, 2))
    assert sum(passes) == 3  # four genes a pass, eleven genes


def test_many_genes_of_csr_values_need_no_copy_in_columns(counts, monkeypatch):
    monkeypatch.setattr(storage, "_PIECE", N_GENES * 4)
    matrix = sp.csr_array(counts.astype(np.float32))
    monkeypatch.setattr(sp.csr_array, "tocsc", None)  # what such a copy would call
    cells = CellExpression(matrix, np.array(CELLS), np.array(GENES))
    chosen = [7, 0, 3, 10]
    found = cells.dense([GENES[i] for i in chosen])
    np.testing.assert_array_equal(found, counts[:, chosen])
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "kept"), [("float32", "float32"), ("float64", "float64"), ("uint16", "float64")]
)
def test_dense_keeps_float32_and_widens_integers(counts, given, kept):
    for values in (counts.astype(given), sp.csr_array(counts.astype(given))):
        cells = CellExpression(values, np.array(CELLS), np.array(GENES))
        assert cells.dense(["g.1"]).dtype == kept
        assert next(cells.gene_blocks(None, 3))[1].dtype == kept
        assert cells.totals().dtype == np.float64


def test_small_integers_do_not_overflow_in_totals():
    cells = CellExpression(
        sp.csr_array(np.full((2, 3), 60000, dtype=np.uint16)), np.array(["a", "b"]), np.array(list("xyz"))
    )
    assert cells.totals().tolist() == [180000, 180000]


@pytest.mark.parametrize("layout", ["dense", "csr", "csc", "csr_matrix"])
def test_inputs_are_never_changed(counts, make, layout):
    kind = {"dense": np.array, "csr": sp.csr_array, "csc": sp.csc_array, "csr_matrix": sp.csr_matrix}[layout]
    matrix = kind(counts.astype(float))
    names = np.array(GENES)
    before = matrix.copy()
    cells = as_cells(matrix, genes=names, cells=CELLS)
    cells.dense(["g.3"])
    list(cells.gene_blocks(None, 3))
    cells.take_cells([1, 2]), cells.totals(), cells.detected()
    align_landmarks(cells, reference_of(["g.1", "g.2", "g.5"]))
    if layout == "dense":
        np.testing.assert_array_equal(matrix, before)
        assert matrix.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            cells.values[0, 0] = 1
    else:
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(matrix, part), getattr(before, part))
            assert np.shares_memory(getattr(matrix, part), getattr(cells.values, part))
        assert type(matrix) is type(before)
    names[0] = "x"  # the caller's array stays the caller's
    assert cells.genes[0] == "g.0"
    with pytest.raises(ValueError, match="read-only"):
        cells.genes[0] = "x"


def test_unsorted_duplicated_entries_are_summed_in_a_copy():
    parts = (np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), np.array([0, 3, 3]))
    matrix = sp.csr_array(parts, shape=(2, 2))
    with pytest.warns(PerlerWarning, match="1 of 2 cells"):
        cells = as_cells(matrix, genes=["a", "b"])
    np.testing.assert_array_equal(cells.dense(["a", "b"]), [[2, 5], [0, 0]])
    assert matrix.data.tolist() == [1, 2, 4]


def test_every_kind_of_source_gives_the_same_cells(counts):
    frame = pd.DataFrame(counts, CELLS, GENES)
    adata = anndata.AnnData(
        np.zeros(counts.shape), frame[[]], frame.T[[]], layers={"raw": sp.csr_array(counts)}
    )
    view = anndata.AnnData(sp.csr_matrix(np.vstack([counts, counts])), var=frame.T[[]])[:N_CELLS]
    view.obs_names = CELLS
    for cells in (
        as_cells(frame),
        as_cells(frame.astype("Int64")),
        as_cells(adata, layer="raw"),
        as_cells(view),
        as_cells(counts, genes=GENES, cells=CELLS),
        as_cells(sp.coo_array(counts), genes=GENES, cells=CELLS),
    ):
        np.testing.assert_array_equal(cells.dense(GENES), counts)
        assert (cells.cells.tolist(), cells.genes.tolist(), cells.scale) == (CELLS, GENES, "counts")
        assert as_cells(cells) is cells
    assert as_cells(counts, genes=GENES).cells[:2].tolist() == ["0", "1"]


def test_repr_says_what_it_is_on_one_line(counts, make):
    assert repr(make(counts, "csr")) == "CellExpression(23 cells x 11 genes, counts, csr int64)"
    assert "backed csr" in repr(make(counts, "backed-csr"))
    reference = reference_of(["a", "b"], coordinates=np.zeros((5, 3)))
    assert repr(reference) == "SpatialReference(5 locations x 2 landmarks, linear, 3D)"


def test_shape_annotations_are_executed(counts):
    """The import hook is in force: a wrong type in a signature must not pass."""
    with pytest.raises(jaxtyping.TypeCheckError):
        align_landmarks(counts, counts)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.array([[0.0, 3.0], [1.0, 2.0]]), "counts"),
        (np.array([[0, 3], [1, 2]]), "counts"),
    ],
)
def test_scale_auto(values, scale):
    assert as_cells(values, genes=["a", "b"]).scale == scale
    assert as_cells(sp.csr_array(values), genes=["a", "b"]).scale == scale


def test_a_table_in_the_place_of_names_is_refused():
    table = pd.DataFrame({"a": [1.0], "b": [2.0]})
    with pytest.raises(PerlerInputError, match=r"expected a list of gene names; found DataFrame of shape"):
        name_positions(table, np.array(["a", "b"]), "gene")


def test_a_file_read_row_by_row_is_held_twice_at_most(tmp_path, monkeypatch):
    counts = sp.random_array((4000, 200), density=0.25, format="csr", dtype=np.float32, rng=0)
    anndata.AnnData(counts).write_h5ad(tmp_path / "cells.h5ad")
    values = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r").X
    monkeypatch.setattr(storage, "_PIECE", 20_000)
    tracemalloc.start()
    block = storage.gather(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = block.data.nbytes + block.indices.nbytes
    assert block.format == "csc"
    assert 1.9 * size < peak < 2.6 * size  # SciPy before 1.17 holds the indices once more, in turning to CSC


@pytest.mark.parametrize("layout", ["dense", "csr", "csc", "backed-dense", "backed-csr", "backed-csc"])
def test_bad_values_are_refused_with_number_gene_and_cell(counts, make, layout):
    values = counts.astype(float)
    values[4, 2] = values[9, 2] = -1
    with pytest.raises(
        PerlerInputError, match=r"2 such values.*-1 at row cell-4, gene g\.2.*scale='centred'"
    ):
        make(values, layout, scale="counts")
    with pytest.raises(PerlerInputError, match="a scale that the values tell"):
        make(values, layout)  # integers below zero are broken counts, not logarithms
    values[4, 2], values[9, 2] = 0.5, 1
    assert make(values, layout, scale="counts").scale == "counts"  # counts may be corrected ones
    with pytest.raises(PerlerInputError, match=r"such value.*which are 0 or 1|which are 0 or 1.*such value"):
        make(values, layout, scale="binary")
    values[4, 2], values[9, 2] = np.nan, np.inf
    with pytest.raises(PerlerInputError, match=r"2 such values.*nan at row cell-4, gene g\.2"):
        make(values, layout)


def test_backed_values_are_checked_where_they_are_read(counts, make, monkeypatch):
    values = counts.astype(float)
    values[20, 5] = np.nan
    monkeypatch.setattr(storage, "_PIECE", 4 * N_GENES)  # construction sees four rows only
    cells = make(values, "backed-csr")
    assert cells.dense(["g.4"]).shape == (N_CELLS, 1)
    with pytest.raises(PerlerInputError, match=r"nan at row cell-20, gene g\.5"):
        cells.dense(["g.4", "g.5"])
    with pytest.raises(PerlerInputError, match=r"nan at row cell-20, gene g\.5"):
        align_landmarks(cells, reference_of(["g.1", "g.4", "g.5"]))


def test_suspicious_scales_warn(counts):
    with pytest.warns(PerlerWarning, match="all values are integers, as counts are"):
        as_cells(counts * 50, genes=GENES, scale="log2")
    with pytest.warns(PerlerWarning, match=r"found a maximum of 2.*; say scale='linear'"):
        as_cells(counts * 50.5, genes=GENES, scale="log1p")
    with pytest.raises(PerlerInputError, match=r"a scale of auto, counts, linear, .*; found 'raw'"):
        known_scale("raw")


def test_empty_cells_are_named(counts):
    counts[[3, 8]] = 0
    with pytest.warns(
        PerlerWarning, match=r"2 of 23 cells with zeros only \(first: cell-3, cell-8\).*leave them out"
    ):
        as_cells(pd.DataFrame(counts, CELLS, GENES))


@pytest.mark.parametrize(
    ("obsm", "obs", "told"),
    [
        ({"X_umap": 2, "X_pca": 3, "wide": 5}, {}, None),
        ({"X_umap": 2, "spatial3d": 3}, {}, "pass coordinates='spatial3d'"),
        (
            {"positions": 2, "X_spatial": 2},
            {},
            r"coordinates='X_spatial' \('positions' may be meant as well\)",
        ),
        ({}, {"X": 1.0, "Y": 2.0}, r"obs has the columns X, Y: pass coordinates=\['X', 'Y'\]"),
        ({}, {"y_centroid": 1.0, "x_centroid": 2.0}, r"\['x_centroid', 'y_centroid'\]"),
        ({}, {"x": "left", "y": "right"}, None),
        ({"X_spatial": 2, "spatial": 2}, {}, None),
    ],
)
def test_positions_that_lie_elsewhere_are_told(obsm, obs, told, recwarn):
    adata = anndata.AnnData(np.arange(12.0).reshape(4, 3), var=pd.DataFrame(index=list("abc")))
    for key, width in obsm.items():
        adata.obsm[key] = np.arange(4.0 * width).reshape(4, width)
    for key, value in obs.items():
        adata.obs[key] = value
    reference = as_reference(adata, scale="linear")
    assert (reference.coordinates is None) == ("spatial" not in obsm)
    messages = [str(each.message) for each in recwarn if "positions" in str(each.message)]
    assert len(messages) == (told is not None)
    assert told is None or re.search(told, messages[0])


def test_wrong_tables_are_refused(counts):
    frame = pd.DataFrame(counts, CELLS, GENES)
    adata = anndata.AnnData(frame.astype(float), layers={"raw": counts})
    cases = [
        (lambda: as_cells(frame.assign(cell_type="neuron")), "1 columns of another kind .cell_type."),
        (lambda: as_cells(frame, genes=GENES), "from the DataFrame itself"),
        (lambda: as_cells(frame, layer="raw"), "leave it out"),
        (lambda: as_cells(adata, layer="logs"), "found layers .'raw'."),
        (
            lambda: as_cells(anndata.AnnData(obs=frame[[]], var=frame.T[[]], layers={"raw": counts})),
            "name one of its layers .'raw'.",
        ),
        (lambda: as_cells(counts), "pass genes="),
        (lambda: as_cells(counts.tolist(), genes=GENES), "found list"),
        (
            lambda: as_cells(counts, genes=GENES[1:]),
            r"expected 11 gene names, one per column; found shape \(10,\)",
        ),
        (lambda: as_cells(frame.rename(index={"cell-2": "cell-1"})), "unique cell names; found 1 repeated"),
        (
            lambda: as_cells(counts, genes=np.array([*GENES[1:], None], dtype=object)),
            r"1 missing \(first at position 10\)",
        ),
        (lambda: as_cells(frame.iloc[:1]), "at least 2 cells"),
        (lambda: as_cells(counts.astype(complex), genes=GENES), "dtype complex"),
        (lambda: as_cells(as_cells(frame), scale="log2"), "its scale is 'counts'"),
        (lambda: as_cells(frame).dense(["G.3", "zz"]), r"2 unknown .*near misses: G\.3 ~ g\.3"),
        (lambda: as_cells(frame).dense("g.3"), r"pass \['g.3'\]"),
        (lambda: as_cells(frame).take_cells([0, 23]), "positions below 23"),
        (lambda: as_cells(frame).take_cells(np.ones(4, bool)), "mask of 23 cells"),
        (lambda: as_cells(frame).take_cells([]), "at least 2 cells"),
        (lambda: as_cells(frame).gene_blocks(["zz"], 4), "unknown"),
        (lambda: as_cells(frame).gene_blocks(None, 0), "at least 1 gene"),
    ]
    for call, message in cases:
        with pytest.raises(PerlerInputError, match=message):
            call()


def test_take_cells_by_mask_slice_and_negative_position(counts):
    cells = as_cells(counts, genes=GENES, cells=CELLS)
    mask = np.arange(N_CELLS) % 5 == 0
    assert cells.take_cells(mask).cells.tolist() == CELLS[::5]
    assert cells.take_cells(pd.Series(mask, CELLS)).cells.tolist() == CELLS[::5]
    assert cells.take_cells(slice(2, 4)).cells.tolist() == CELLS[2:4]
    assert cells.take_cells([-1, 0]).cells.tolist() == [CELLS[-1], CELLS[0]]


def test_reference_sources_agree_and_are_not_changed():
    rng = np.random.default_rng(2)
    values, positions = rng.random((6, 3)), rng.random((6, 2))
    frame = pd.DataFrame(values, list("uvwxyz"), ["a", "b", "c"])
    adata = anndata.AnnData(frame, obsm={"spatial": positions})
    shuffled = pd.DataFrame(positions, frame.index)
    shuffled.loc["elsewhere"] = 9.0
    for reference in (
        as_reference(adata),
        as_reference(frame, coordinates=positions),
        as_reference(frame, coordinates=shuffled.iloc[::-1]),  # by name, longer and reversed
        as_reference(frame, coordinates=pd.DataFrame(positions)),  # rows without names: in order
        as_reference(as_reference(frame), coordinates=positions),
        as_reference(
            sp.csr_array(values), genes=["a", "b", "c"], locations=frame.index, coordinates=positions
        ),
    ):
        np.testing.assert_array_equal(reference.values, values)
        np.testing.assert_array_equal(reference.coordinates, positions)
        assert reference.locations.tolist() == list("uvwxyz")
        assert reference.scale == "linear"
        assert not reference.is_binary
        with pytest.raises(ValueError, match="read-only"):
            reference.values[0, 0] = 0
    assert values.flags.writeable
    assert positions.flags.writeable
    other = rng.random((6, 3))
    np.testing.assert_array_equal(as_reference(adata, coordinates=other).coordinates, other)
    part = reference.take_locations(["z", "u"]).drop_genes(["b"])
    np.testing.assert_array_equal(part.values, values[[5, 0]][:, [0, 2]])
    np.testing.assert_array_equal(part.coordinates, positions[[5, 0]])
    assert as_reference((values > 0.5).astype(int), genes=list("abc")).is_binary


def test_reference_scales():
    values = np.array([[0.0, -1.0], [1.0, 2.0]])
    assert as_reference(values, genes=["a", "b"], scale="log2").scale == "log2"
    for scale in ("auto", "linear"):
        with pytest.raises(PerlerInputError, match=r"-1 at row 0, gene b.*scale='centred'"):
            as_reference(values, genes=["a", "b"], scale=scale)
    with pytest.warns(PerlerWarning, match=r"found a maximum of 200, .*; say scale='counts'"):
        as_reference(abs(values) * 100, genes=["a", "b"], scale="log2")


def test_wrong_references_are_refused():
    values = np.random.default_rng(2).random((6, 3))
    frame = pd.DataFrame(values, list("uvwxyz"), ["a", "b", "c"])
    missing = frame.copy()
    missing.iloc[2, 1] = np.nan
    hole = values.copy()
    hole[3, 0] = np.nan
    partly = pd.DataFrame(values, ["u", "v", "w", "X", "Y", "q"])
    cases = [
        (
            lambda: as_reference(missing),
            r"1 values missing \(NaN\), of 1 of 3 genes \(b\) at 1 of 6 locations",
        ),
        (
            lambda: as_reference(frame, coordinates=values[:5]),
            r"coordinates of 6 locations .*found shape \(5, 3\)",
        ),
        (lambda: as_reference(frame, coordinates=np.zeros((6, 4))), "2 or 3 columns"),
        (lambda: as_reference(frame, coordinates=pd.DataFrame(np.zeros((12, 2)))), r"found shape \(12, 2\)"),
        (lambda: as_reference(frame, coordinates=hole), r"NaN or infinity at 1 locations \(x\)"),
        (lambda: as_reference(frame, coordinates=partly), "3 without .x, y, z. .near misses: x ~ X, y ~ Y"),
        (
            lambda: as_reference(frame, coordinates=partly.assign(zone="p")),
            "1 columns of another kind .zone.",
        ),
        (lambda: as_reference(frame.iloc[:1]), "at least 2 locations"),
        (lambda: as_reference(as_reference(frame), genes=["a", "b", "c"]), "ready SpatialReference alone"),
        (lambda: as_reference(frame).drop_genes(["A"]), "near misses: A ~ a"),
    ]
    for call, message in cases:
        with pytest.raises(PerlerInputError, match=message):
            call()


def test_row_numbers_are_not_location_names():
    """A longer table without names (the fly's geometry) is an error, though its numbers cover the rows."""
    reference = as_reference(np.random.default_rng(0).random((4, 2)), genes=["a", "b"])
    with pytest.raises(PerlerInputError, match=r"found shape \(8, 2\)"):
        as_reference(reference, coordinates=pd.DataFrame(np.zeros((8, 2))))


def test_landmarks_are_shared_names_in_reference_order(counts):
    cells = as_cells(counts, genes=GENES)
    genes = ["g.9", "g.2", "g.4"]
    assert align_landmarks(cells, reference_of(genes)).tolist() == genes


def test_landmarks_are_matched_exactly_and_near_misses_shown(counts):
    cells = as_cells(counts, genes=[*GENES[:8], "Blimp.1", "E.spl.m5.HLH", "EVE"])
    reference = reference_of(["g.1", "Blimp-1", "g.2", "E(spl)m5-HLH", "eve", "g.3", "nothing_like_it"])
    expected = r"3 of 7 .* 4 are dropped .*Blimp-1 ~ Blimp\.1, E\(spl\)m5-HLH ~ E\.spl\.m5\.HLH, eve ~ EVE\)"
    with pytest.warns(PerlerWarning, match=expected):
        assert align_landmarks(cells, reference).tolist() == ["g.1", "g.2", "g.3"]
    with pytest.raises(
        PerlerInputError, match=r"at least 4 .*found 3 of 7 .*near misses: Blimp-1 ~ Blimp\.1"
    ):
        align_landmarks(cells, reference, minimum=4)


def test_constant_landmarks_are_dropped_and_named(counts):
    counts[:, 2] = 0
    cells = as_cells(counts, genes=GENES)
    reference = reference_of(["g.0", "g.1", "g.2", "g.3", "g.4"])
    values = reference.values.copy()
    values[:, 1:3] = 0.25  # g.2 is constant on both sides and named once
    reference = as_reference(values, genes=reference.genes)
    with pytest.warns(PerlerWarning) as caught:
        assert align_landmarks(cells, reference).tolist() == ["g.0", "g.3", "g.4"]
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "1 constant in the cells (g.2)" in messages[0]
    assert "1 constant in the reference (g.1)" in messages[1]
    with pytest.raises(PerlerInputError, match="at least 4 landmarks that vary"), pytest.warns(PerlerWarning):
        align_landmarks(cells, reference, minimum=4)
