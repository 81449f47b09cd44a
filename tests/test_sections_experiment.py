"""The experiment on sections and donors: how data are made, and that its page says what was found."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from experiments.sections.__main__ import _means
from experiments.sections.donors import two_donors
from experiments.sections.osmfish import cut

FOLDER = Path(__file__).parents[1] / "experiments" / "sections"


def test_sections_are_strips_across_the_layers():
    rng = np.random.default_rng(0)
    where = rng.random((400, 2)) * [100.0, 60.0] + 5.0
    located = anndata.AnnData(np.zeros((400, 1)), obsm={"spatial": where})
    located.obs["region"] = np.where(where[:, 1] > 30, "upper", "lower")  # layers lie along x
    made = cut(located, {"large": 0.75, "small": 0.25})
    assert made.obs["section"].value_counts().to_dict() == {"large": 300, "small": 100}
    assert where[made.obs["section"] == "large", 0].max() <= where[made.obs["section"] == "small", 0].min()
    for name in ("large", "small"):
        own = (made.obs["section"] == name).to_numpy()
        np.testing.assert_allclose(made.obsm["spatial"][own], where[own] - where[own].min(axis=0))
    np.testing.assert_array_equal(located.obsm["spatial"], where)  # the input stays as it is


def test_donors_differ_as_they_are_asked_to():
    sizes = {"n_locations": 100, "n_cells": 300, "n_genes": 40, "n_landmarks": 12}
    cells, reference, truth = two_donors(0, 4.0, 0.0, sizes)
    x = np.asarray(reference.obsm["spatial"])[cells.obs["true_location"].to_numpy(), 0]
    second = (cells.obs["donor"] == "second").to_numpy()
    assert x[second].mean() > x[~second].mean() + 0.5 * x.std()
    assert truth.shape == (100, cells.n_vars)
    other, _, _ = two_donors(0, 0.0, 1.0, sizes)
    second = (other.obs["donor"] == "second").to_numpy()
    ratio = np.log1p(other.X[second].mean(axis=0)) - np.log1p(other.X[~second].mean(axis=0))
    assert ratio.std() > 0.3


def test_means_are_over_genes_then_seeds():
    table = pd.DataFrame({"way": ["a"] * 4, "seed": [0, 0, 0, 1], "score": [0.0, 0.0, 0.6, 0.4]})
    (row,) = _means(table, ["way"], "score")
    np.testing.assert_allclose([row["mean"], row["min"], row["max"]], [0.3, 0.2, 0.4])


def test_the_page_says_what_was_found():
    summary = json.loads((FOLDER / "results" / "sections.json").read_text())["summary"]
    page = (FOLDER / "README.md").read_text()
    for part in summary.values():
        for row in part:
            assert f"{row['mean']:.3f}" in page, row
    score = {(row["section"], row["way"]): row["mean"] for row in summary["sections"]}
    for section in ("large", "middling", "small"):  # what the issue asks for
        assert score[section, "one fit, section_key"] >= score[section, "a fit of each"]
