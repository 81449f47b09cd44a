"""Experiments on zones and on maps of single cells: scores against hand-made cases; the liver files."""

import gzip
import tomllib
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import experiments.cortex
import experiments.villus
from experiments.compare.contract import Cells, Reference
from experiments.compare.levels import without_levels
from experiments.cortex.dissociated import classes_of, layers_of
from experiments.villus import published as villus_published
from experiments.villus.halves import split_halves
from experiments.villus.scoring import family_of, score_cells, score_genes
from perler_jax.errors import PerlerFileError
from perler_jax.liver import load_liver


def config_of(package):
    return tomllib.loads((Path(package.__file__).parent / "config.toml").read_text())


@pytest.fixture
def villus():
    """210 cells in three zones of 30, 60 and 120; gene ``up`` rises, ``down`` falls, ``middle`` peaks."""
    rng = np.random.default_rng(0)
    zone = np.repeat([0, 1, 2], [30, 60, 120])
    rates = {"up": [1, 4, 16], "down": [16, 4, 1], "middle": [2, 20, 2], "flat": [40, 40, 40]}
    counts = rng.poisson(np.array([[rates[gene][z] for gene in rates] for z in zone])).astype(np.float32)
    cells = ad.AnnData(counts, obs={"zone": zone}, var=pd.DataFrame(index=list(rates)))
    cells.X = sparse.csr_matrix(counts)
    return cells


@pytest.fixture
def halves(villus):
    return split_halves(villus, CONFIG, seed=1)


def test_halpern_puts_cells_of_the_villus_into_their_zones(villus, halves):
    of_map = villus[~villus.obs_names.isin(halves.cells.obs_names)]
    weights = villus_published.zones_of(halves, of_map, halves.areas / halves.areas.sum())
    assert (weights.argmax(axis=1) == halves.zones).mean() > 0.8
    profiles, _ = villus_published.profiles_of(halves, of_map, weights)
    np.testing.assert_allclose(profiles, halves.map_profiles.loc[profiles.index], atol=0.6)
    # With true zones, the halves differ as their standard errors say.
    _, inside = villus_published.profiles_of(halves, of_map, np.eye(3)[halves.zones])
    assert inside.mean() > 0.6


CONFIG = {
    "n_landmarks": 2,
    "least_mean": 0.1,
    "least_range": 0.5,
    "least_depth": 0.5,
    "markers": {"towards the tip": ["up"]},
}


def test_halves_share_no_cell_and_every_zone_equally(villus, halves):
    assert len(halves.cells) == 105
    np.testing.assert_array_equal(np.bincount(halves.zones), [15, 30, 60])
    np.testing.assert_allclose(halves.areas, [1 / 7, 2 / 7, 4 / 7])
    # The map is the mean of shares of the cells that are not mapped, and of no other.
    rest = ~villus.obs_names.isin(halves.cells.obs_names)
    of_zone = (villus.obs["zone"] == 2).to_numpy() & rest
    shares = villus.X[of_zone].toarray() / villus.X[of_zone].sum(axis=1)
    expected = 10_000 * np.asarray(shares).mean(axis=0)
    found = halves.reference.to_df().loc["zone 2"]
    np.testing.assert_allclose(found, expected[villus.var_names.get_indexer(found.index)], rtol=1e-5)


def test_markers_are_never_landmarks_and_always_scored(halves):
    assert list(halves.reference.var_names) == ["down", "middle"]
    assert "up" in halves.map_profiles.index
    assert "flat" not in halves.map_profiles.index


def test_families_of_profiles():
    profiles = pd.DataFrame(
        [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 0], [2, 0, 0, 2], [0, 2, 1.9, 3], [0, 3.0, 2.9, 2.8]],
        index=["up", "down", "between", "valley", "nearly up", "shallow peak"],
    ).astype(float)
    found = dict(zip(profiles.index, family_of(profiles, 0.5), strict=True))
    assert found["up"] == found["nearly up"] == "rising"
    assert found["down"] == "falling"
    assert found["between"] == "peak in between"
    assert found["valley"] == "other"
    assert found["shallow peak"] == "rising"


def test_gene_scores_know_right_from_wrong(halves):
    right = score_genes(halves, halves.map_profiles, CONFIG)
    np.testing.assert_allclose(right["correlation"], 1.0)
    assert (right["peak_error"] == 0).all()
    wrong = score_genes(halves, -halves.map_profiles, CONFIG)
    np.testing.assert_allclose(wrong["correlation"], -1.0)
    assert wrong.loc["up", "peak_error"] == 2
    by_truth = halves.means_by(np.eye(3)[halves.zones])
    assert score_genes(halves, by_truth, CONFIG)["correlation"].min() > 0.95


def test_cell_scores_count_zones(halves):
    posterior = np.full((len(halves.zones), 3), 0.025)
    posterior[:, 1] = 0.95
    found = score_cells(halves, posterior)
    np.testing.assert_array_equal(found["error"], np.abs(halves.zones - 1))
    np.testing.assert_array_equal(found["in_region"], halves.zones == 1)
    np.testing.assert_allclose(found["probability"], np.where(halves.zones == 1, 0.95, 0.025))


def test_classes_and_layers_of_dissociated_types():
    config = config_of(experiments.cortex)
    types = pd.Series(["L2/3 Ptgs2", "L5b Tph2", "Oligo Opalin", "Pvalb Wt1", "OPC Pdgfra", "Micro Ctss"])
    assert classes_of(types, config).tolist() == [
        *("Excitatory", "Excitatory", "Oligo", "Inhibitory", "OPC", "Micro")
    ]
    assert layers_of(types, config).tolist() == ["L2/3", "L5", "", "", "", ""]


def test_levels_are_taken_off_and_nothing_else():
    rng = np.random.default_rng(0)
    names = np.array([f"g{n}" for n in range(8)])
    cells = Cells(rng.normal(3, 1, (40, 8)), None, names)
    linear = rng.gamma(2, 1, (25, 6))
    reference = Reference(linear, np.log2(1 + linear), None, names[:6], rng.normal(size=(25, 2)))
    brighter = replace(reference, log=reference.log + rng.normal(size=(25, 1)))
    taken = without_levels(cells, reference)
    shifts = cells.log[:, :6] - taken[0]
    np.testing.assert_allclose(shifts, np.tile(shifts[:, :1], (1, 6)), atol=1e-12)
    np.testing.assert_allclose(taken[0].mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(without_levels(cells, brighter)[1], taken[1], atol=1e-12)


def liver_files(folder, **changes):
    """Three wells, four rows of counts (two of one gene), two zones, one of them in two samples."""
    tables = {
        "GSE84498_experimental_design.txt.gz": "well\tbatch\tmouse\nW2\tAB1\tm1\nW1\tAB1\tm1\nW3\tAB2\tm2\n",
        "GSE84498_umitab.txt.gz": "gene\tW1\tW2\tW3\nAlb\t5\t6\t7\nCyp2e1;Cyp2e1b\t0\t2\t0\n"
        "Ass1\t1\t0\t3\nCyp2e1\t1\t1\t0\nnan\t0\t0\t4\n",
        "smfish_zones.tsv": "zone\tAss1\tCyp2e1\n2\t8\t1\n1\t1\t9\n1\t3\t11\n",
    } | changes
    for name, text in tables.items():
        if text is not None:
            opened = gzip.open if name.endswith(".gz") else open
            with opened(folder / name, "wt") as file:
                file.write(text)
    return folder


def test_liver_files_become_cells_and_zones(tmp_path):
    liver = load_liver(liver_files(tmp_path))
    assert liver.cells.obs_names.tolist() == ["W2", "W1", "W3"]  # in the order of the design
    assert liver.cells.obs["mouse"].tolist() == ["m1", "m1", "m2"]
    assert liver.cells.to_df().loc["W2"].to_dict() == {"Alb": 6, "Cyp2e1": 3, "Ass1": 0, "nan": 0}
    assert liver.reference.to_df().loc["zone 1"].to_dict() == {"Ass1": 2, "Cyp2e1": 10}  # mean of samples
    np.testing.assert_allclose(liver.reference.obs["area"], [0.25, 0.75])
    assert "3 cells x 4 genes; 2 zones x 2" in repr(liver)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"smfish_zones.tsv": None}, "smfish_zones.tsv in .*, found none"),
        ({"smfish_zones.tsv": "zone\tAss1\n1\t2\n3\t4\n"}, "without a gap, found 1, 3"),
        ({"smfish_zones.tsv": "zone\tAss1\n1\t-2\n2\t4\n"}, "numbers >= 0"),
        ({"GSE84498_umitab.txt.gz": "gene\tW1\tW2\nAlb\t5\t6\n"}, "for W3"),
        ({"GSE84498_experimental_design.txt.gz": "cell\nW1\n"}, "a column 'well'"),
    ],
)
def test_liver_files_that_do_not_fit_are_refused(tmp_path, changes, said):
    with pytest.raises(PerlerFileError, match=said):
        load_liver(liver_files(tmp_path, **changes))
