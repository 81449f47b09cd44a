"""The report of a fit: every part is there, its figures are the fit's, its advice follows from the scores."""

import dataclasses
import html.parser
import re

import numpy as np
import pandas as pd
import pytest

import perler_jax as pj
from perler_jax.app.advice import next_steps, verdict
from perler_jax.app.cli import main
from perler_jax.trust import gene_reliability


@pytest.fixture(scope="module")
def embryo():
    return pj.simulate_embryo(seed=4, n_locations=150, n_cells=120, n_genes=40, n_landmarks=16)


@pytest.fixture(scope="module")
def fit(embryo):
    settings = pj.PerlerSettings(n_metagenes=8, predictor="mean", search="grid", folds=4)
    return pj.fit_perler(embryo.cells, embryo.reference, settings=settings, progress=False)


@pytest.fixture(scope="module")
def page(fit):
    return fit.report()


class Reader(html.parser.HTMLParser):
    """Text of a page, and whether its elements are closed in their order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, _):
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_every_part_is_there_and_nothing_comes_from_elsewhere(page):
    read = Reader(page)
    assert not read.open
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    parts = (
        "What to do next",
        "Data",
        "Scores of the landmarks",
        "What predicts",
        "What to believe",
        "Versions",
    )
    assert tuple(heads) == parts
    assert page.count("<svg") == 1
    assert not re.search(r'(?:src|href)="https?:', page.replace("xlink:href", ""))


def test_its_figures_are_those_of_the_fit(fit, page):
    text = " ".join(Reader(page).text)
    assert f"predict one another at {fit.scores['nested'].mean():.2f}" in text
    assert "120 (cell1, cell2, cell3, ...)" in text
    assert pj.__version__ in text
    counts = gene_reliability(fit, seed=0, splits=2)["flag"].value_counts()
    for flag in ("good", "doubtful", "poor"):
        assert f"<b>{counts.get(flag, 0)}</b> {flag}" in page
    assert "counts: whole numbers" in text


def test_names_are_shown_as_texts(fit):
    names = np.array([f"<b>{name}" for name in fit.cell_names])
    page = dataclasses.replace(fit, cell_names=names, cells=None).report()
    assert "&lt;b&gt;" in page
    assert "<b>cell" not in page
    assert "loaded without its cells" in page


def test_advice_follows_from_the_scores():
    def scores(nested, paper=None):
        table = {"nested": nested, "nested_paper": nested if paper is None else paper}
        return pd.DataFrame(table, index=[f"gene{i}" for i in range(len(nested))])

    how = {"tuned": True, "area": False, "converged": True, "foreign": 0.0, "has_places": True}
    low, high = scores(np.full(40, 0.17)), scores(np.full(40, 0.65))
    assert "at 0.17" in verdict(low, tuned=True, area=False)
    assert "locate cell classes" in verdict(low, tuned=True, area=False)
    assert "location by location" in verdict(high, tuned=True, area=False)
    assert "nothing can be predicted" in verdict(scores(np.full(40, -0.1)), tuned=True, area=False)
    assert "right region" in verdict(scores(np.full(40, 0.75)), tuned=True, area=True)
    assert "call fit_perler without weights" in verdict(low, tuned=False, area=False)

    def told(table, **changes):
        return " ".join(next_steps(table, **(how | changes)))

    assert "how both sides were read" in told(low)
    assert "how both sides were read" not in told(high)
    mixed = scores(np.r_[np.full(38, 0.6), 0.01, -0.2])
    assert "2 landmarks are predicted no better than by chance (gene39, gene38)" in told(mixed)
    assert "12 landmarks are few" in told(scores(np.full(12, 0.6)))
    assert "weighted mean scores 0.10 higher" in told(scores(np.full(40, 0.5), np.full(40, 0.6)))
    assert "raise max_steps" in told(high, converged=False)
    assert "30% of the cells" in told(high, foreign=0.3)
    assert "coordinates" in told(high, has_places=False)
    assert "9 genes are poor" in told(high, flags={"poor": 9, "good": 2})
    assert "genes are poor" not in told(high, flags={"poor": 2, "good": 9})
    assert "Fit again without weights" in told(low, tuned=False)


def test_a_fit_by_given_weights_has_a_report(embryo):
    given = pj.fit_perler(embryo.cells, embryo.reference, weights=(0.2, 0.5), progress=False)
    page = given.report()
    assert "None were held out" in page
    assert "Not known: expected a fit with held-out landmarks" in page


def test_command_line(fit, embryo, tmp_path, capsys):
    fit.save(tmp_path / "fit.npz")
    embryo.cells.write_h5ad(tmp_path / "cells.h5ad")
    out = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "fit.npz"), str(tmp_path / "cells.h5ad"), "-o", str(out)]) == 0
    assert "genes:" in out.read_text(encoding="utf-8")
    assert "Your landmarks predict one another at" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "fit.npz"), "-o", str(out)]) == 0
    assert "loaded without its cells" in out.read_text(encoding="utf-8")
    with pytest.raises(pj.PerlerFileError, match=r"ends in \.html"):
        fit.report(tmp_path / "report.pdf")
