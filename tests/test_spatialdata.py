"""SpatialData, Space Ranger and Xenium: small folders of the real shape, whole and broken.

Those that need spatialdata or spatialdata-io (extra "spatial") are skipped where these are not installed.
"""

import importlib
import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

from perler_jax.errors import PerlerFileError, PerlerInputError, PerlerWarning
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.io import read_cells, read_reference
from perler_jax.inputs.readers import platforms, spatialdata_zarr
from tests.test_readers import CELLS, COUNTS, GENES, IDS, write_10x_h5

CENTRES = np.array([[5.0, 10], [15, 10], [5, 20], [15, 20]])
needs_spatialdata = pytest.mark.skipif(
    importlib.util.find_spec("spatialdata") is None, reason="spatialdata is not installed (extra: spatial)"
)
needs_spatialdata_io = pytest.mark.skipif(
    importlib.util.find_spec("spatialdata_io") is None,
    reason="spatialdata-io is not installed (extra: spatial)",
)


def table(annotates=True):
    adata = anndata.AnnData(
        sp.csr_matrix(COUNTS), pd.DataFrame(index=CELLS), pd.DataFrame({"gene_ids": IDS}, GENES)
    )
    if annotates:  # in another order than the shapes
        adata.obs["region"] = pd.Categorical(["spots"] * 4)
        adata.obs["number"] = [3, 2, 1, 0]
        adata.uns["spatialdata_attrs"] = {
            "region": "spots",
            "region_key": "region",
            "instance_key": "number",
        }
    return adata


def write_tables(path, **tables):
    """The folder that SpatialData.write makes, without shapes and images."""
    group = zarr.open_group(str(path), mode="w")
    group.attrs["spatialdata_attrs"] = {"version": "0.2", "spatialdata_software_version": "0.4.0"}
    group.create_group("tables")
    for name, each in tables.items():
        each.write_zarr(path / "tables" / name)
    return path


class Stand:
    """What a SpatialData offers here: its class has that name, and it has tables."""

    def __new__(cls, **tables):
        kind = type("SpatialData", (), {"tables": tables})
        return kind()


def test_the_table_of_a_zarr_needs_no_library(tmp_path):
    path = write_tables(tmp_path / "a.zarr", table=table())
    cells = read_cells(path)
    assert (cells.cells.tolist(), cells.genes.tolist()) == (CELLS, GENES)
    np.testing.assert_array_equal(cells.dense(GENES), COUNTS)
    assert read_cells(path, gene_key="gene_ids", backed=True).genes.tolist() == IDS
    located = table()
    located.obsm["spatial"] = CENTRES
    path = write_tables(tmp_path / "b.zarr", cells=table(), spots=located)
    np.testing.assert_array_equal(read_reference(path, table="spots").coordinates, CENTRES)
    for asked, message in ((None, "one table, or its name"), ("nuclei", "the table 'nuclei'")):
        with pytest.raises(PerlerInputError, match=rf"{message}.*found cells, spots; pass table='NAME'"):
            read_cells(path, table=asked)
    table().write_zarr(tmp_path / "c.zarr")
    with pytest.raises(PerlerInputError, match=r"a SpatialData .*with table='x'; found"):
        read_cells(tmp_path / "c.zarr", table="x")


def test_a_zarr_with_shapes_names_the_extra(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(spatialdata_zarr.importlib.util, "find_spec", lambda name: None)
    reference = read_reference(write_tables(tmp_path / "a.zarr", table=table()))
    assert reference.coordinates is None
    assert 'need spatialdata: pip install "perler_jax[spatial]"' in caplog.text


def test_a_broken_table_of_a_zarr(tmp_path):
    path = write_tables(tmp_path / "a.zarr", table=table())
    shutil.rmtree(path / "tables" / "table" / "var")
    with pytest.raises(PerlerFileError, match=r"obs and var in .*found no var"):
        read_cells(path)
    shutil.rmtree(path / "tables" / "table")
    with pytest.raises(PerlerInputError, match="one table, or its name in the SpatialData; found no tables"):
        read_cells(path)


def test_a_spatialdata_is_known_by_its_kind():
    located = table(annotates=False)
    located.obsm["spatial"] = CENTRES
    assert as_cells(Stand(table=located)).genes.tolist() == GENES
    np.testing.assert_array_equal(as_reference(Stand(table=located)).coordinates, CENTRES)
    assert as_reference(Stand(table=table(annotates=False))).coordinates is None
    with pytest.raises(PerlerInputError, match="found a, b"):
        as_cells(Stand(a=located, b=located))
    assert as_cells(Stand(a=located, b=located), table="b", gene_key="gene_ids").genes.tolist() == IDS


@needs_spatialdata
def test_positions_are_the_centres_of_what_a_table_annotates(tmp_path):
    import spatialdata

    spots = spatialdata.models.ShapesModel.parse(CENTRES, geometry=0, radius=1.0, index=[0, 1, 2, 3])
    annotating = spatialdata.models.TableModel.parse(
        table(), region="spots", region_key="region", instance_key="number", overwrite_metadata=True
    )
    sdata = spatialdata.SpatialData(shapes={"spots": spots}, tables={"table": annotating})
    np.testing.assert_array_equal(as_reference(sdata).coordinates, CENTRES[::-1])
    assert "spatial" not in annotating.obsm
    sdata.write(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read_reference(tmp_path / "a.zarr").coordinates, CENTRES[::-1])
    moved = spatialdata.transformations.Translation([100.0, 0.0], axes=("x", "y"))
    spatialdata.transformations.set_transformation(sdata["spots"], moved)
    there = CENTRES[::-1] + np.array([100.0, 0.0])
    np.testing.assert_array_equal(as_reference(sdata).coordinates, there)
    polygons = sdata["spots"].assign(geometry=sdata["spots"].buffer(2.0)).drop(columns="radius")
    del sdata.shapes["spots"]
    sdata.shapes["spots"] = spatialdata.models.ShapesModel.parse(polygons)
    np.testing.assert_allclose(as_reference(sdata).coordinates, there)


def space_ranger(folder, symbols=GENES):
    """As Space Ranger 2 leaves it, without the pictures."""
    (folder / "spatial").mkdir(parents=True)
    write_10x_h5(folder / "filtered_feature_bc_matrix.h5", symbols=symbols)
    pd.DataFrame(
        {
            "barcode": [*CELLS, "ZZZ-1"],
            "in_tissue": [1, 1, 1, 1, 0],
            "array_row": [0, 0, 1, 1, 2],
            "array_col": [0, 1, 0, 1, 0],
            "pxl_row_in_fullres": [*CENTRES[:, 1].astype(int), 30],
            "pxl_col_in_fullres": [*CENTRES[:, 0].astype(int), 5],
        }
    ).iloc[::-1].to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    scales = {"spot_diameter_fullres": 8.0, "tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.03}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(scales))
    return folder


def xenium(folder):
    """As Xenium Onboard Analysis 2 leaves it, without the pictures, the boundaries and the transcripts."""
    from spatialdata_io.readers import xenium as library

    ids = np.array([[7, 1], [9, 1], [11, 1], [13, 1]], np.uint32)
    names = [str(name) for name in library.cell_id_str_from_prefix_suffix_uint32(ids[:, 0], ids[:, 1])]
    folder.mkdir()
    write_10x_h5(folder / "cell_feature_matrix.h5", cells=names)
    pd.DataFrame(
        {"cell_id": names, "x_centroid": CENTRES[:, 0], "y_centroid": CENTRES[:, 1], "cell_area": 9.0}
    ).to_parquet(folder / "cells.parquet")
    specs = {"pixel_size": 0.2125, "analysis_sw_version": "xenium-2.0.0.10", "region_name": "R"}
    (folder / "experiment.xenium").write_text(json.dumps(specs))
    with zarr.storage.ZipStore(folder / "cells.zarr.zip", mode="w") as store:
        group = zarr.open_group(store, mode="w", zarr_format=2)
        group.create_array("cell_id", data=ids)
        summary = group.create_array("cell_summary", data=np.ones((4, 8)))
        summary.attrs["column_names"] = [
            *("cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_centroid_x"),
            *("nucleus_centroid_y", "nucleus_area", "z_level", "nucleus_count"),
        ]
        for mask in ("0", "1"):
            group.create_array(f"polygon_sets/{mask}/cell_index", data=np.arange(4, dtype=np.uint32))
    return folder, names


@needs_spatialdata_io
def test_a_space_ranger_folder(tmp_path, caplog):
    folder = space_ranger(tmp_path / "outs")
    reference = read_reference(folder)
    np.testing.assert_array_equal(reference.coordinates, CENTRES)
    assert (reference.locations.tolist(), reference.genes.tolist()) == (CELLS, GENES)
    np.testing.assert_array_equal(reference.values, COUNTS)
    assert read_reference(folder, landmarks=IDS).genes.tolist() == IDS
    array = read_reference(folder, coordinates="array_row,array_col").coordinates
    np.testing.assert_array_equal(array, [[0, 0], [0, 1], [1, 0], [1, 1]])
    # The library makes repeats unique without a word; a symbol of two genes names neither.
    reference = read_reference(space_ranger(tmp_path / "twice", ["eve", "Ctr", "Ctr"]))
    assert reference.genes.tolist() == ["eve", "FBgn2", "FBgn3"]
    assert "2 genes share a symbol" in caplog.text


@needs_spatialdata_io
def test_a_xenium_folder(tmp_path):
    folder, names = xenium(tmp_path / "xenium")
    reference = read_reference(folder)
    np.testing.assert_array_equal(reference.coordinates, CENTRES)
    assert (reference.locations.tolist(), reference.genes.tolist()) == (names, GENES)
    np.testing.assert_array_equal(read_cells(folder).dense(GENES), COUNTS)


@needs_spatialdata_io
def test_broken_folders(tmp_path):
    folder = space_ranger(tmp_path / "outs")
    (folder / "spatial" / "scalefactors_json.json").unlink()
    with pytest.raises(PerlerFileError, match="complete folder of Visium") as caught:
        read_reference(folder)
    assert "\n" not in str(caught.value)
    folder, _ = xenium(tmp_path / "xenium")
    (folder / "cells.parquet").unlink()
    with pytest.raises(PerlerFileError, match="complete folder of Xenium"):
        read_reference(folder)


def test_folders_name_the_extra(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(platforms.importlib, "import_module", missing)
    folder = space_ranger(tmp_path / "outs")
    with pytest.raises(PerlerFileError, match=r'not installed .*; pip install "perler_jax\[spatial\]"$'):
        read_reference(folder)
    (folder / "experiment.xenium").write_text("{}")
    shutil.rmtree(folder / "spatial")
    with pytest.raises(PerlerFileError, match="expected spatialdata-io, which reads the folder"):
        read_reference(folder)


def test_positions_that_lie_elsewhere_are_told_of_tables_too():
    located = table(annotates=False)
    located.obsm["X_spatial"] = CENTRES
    with pytest.warns(PerlerWarning, match="pass coordinates='X_spatial'"):
        as_reference(Stand(table=located))
