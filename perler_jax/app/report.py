"""One page on a fit for a reader without Python: data, scores, what to believe, what to do next."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from perler_jax.app.advice import next_steps, verdict
from perler_jax.app.describe import describe_fit
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.fitted_predictor import choice_of_fit
from perler_jax.inputs.io import atomic_path
from perler_jax.pl.fits import scores as draw_scores
from perler_jax.saved_fit import SavedFit
from perler_jax.trust.reliability import gene_reliability
from perler_jax.versions import installed_versions, package_version

__all__ = ["report"]

_SHOWN = 12  # genes that are named as the best and as the worst
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 56rem;
margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #ddd; }
.verdict { font-size: 1.15rem; background: #eef4fa; border-left: 4px solid #0072B2; padding: .7rem 1rem; }
table { border-collapse: collapse; margin: .6rem 0; } th, td { text-align: left; padding: .2rem .8rem .2rem 0;
vertical-align: top; } th { font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0; } figure svg { max-width: 100%; height: auto; } .note { color: #555; font-size: .9rem; }
"""


def report(
    fit: PerlerFit, path: Any = None, *, cells: Any = None, seed: int = 0, progress: bool = False
) -> str:
    """One HTML page on a fit: data, landmarks, scores, predictor, what to believe, what to do next, versions.

    Args:
        fit: a fit.
        path: to write the page to, ending in .html; None only returns it.
        cells: expression of the fitted cells, for a fit that was loaded without it; without any, the page
            says nothing of genes that are no landmarks.
        seed: of the halves of the cells by which genes are judged.
        progress: show a progress bar.

    Returns:
        The page. It needs no network and no other file.

    Raises:
        PerlerFileError: a path that does not end in .html; nothing is computed.
        PerlerInputError: cells that are not those of the fit.
    """
    if path is not None and Path(path).suffix != ".html":
        raise PerlerFileError(f"expected a path that ends in .html; found {path}; add the ending")
    table, untold = _reliability(fit, cells, seed, progress)
    tuned, area = fit.tuning is not None, fit.settings.objective == "roc"
    counts = None if table is None else {str(k): int(n) for k, n in table["flag"].value_counts().items()}
    steps = next_steps(
        fit.scores,
        tuned=tuned,
        area=area,
        converged=bool(fit.em.converged),
        foreign=float((fit.foreign > 0.5).mean()),
        has_places=fit.reference.coordinates is not None,
        flags=counts,
    )
    made = fit.provenance()
    read = {f"{side.replace('_', ' ')}, read as": str(told) for side, told in made["read_as"].items()}
    parts = [
        f'<p class="verdict">{html.escape(verdict(fit.scores, tuned=tuned, area=area))}</p>',
        _section("What to do next", f"<ol>{''.join(f'<li>{html.escape(each)}</li>' for each in steps)}</ol>"),
        _section("Data", _pairs(_described(fit) | read)),
        _section(
            "Scores of the landmarks", _picture(fit) + _SCORES if tuned else "<p>None were held out.</p>"
        ),
        _section("What predicts", _predictor(fit)),
        _section("What to believe", _belief(table, untold)),
        _section("Versions", _pairs(installed_versions())),
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Report of a fit</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>Report of a fit</h1>{''.join(parts)}"
        f'<p class="note">Made by perler_jax {html.escape(package_version())}.</p></body></html>\n'
    )
    if path is not None:
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(page, encoding="utf-8")
    return page


_SCORES = (
    '<p class="note">Each landmark is predicted by a mapping that never saw it, with shares chosen '
    "without it (nested), and compared with its map; the mappings of the other landmarks have seen it. In "
    "the fit that it is in (reconstruction) it looks better than it is.</p>"
)


def _reliability(fit: PerlerFit, cells: Any, seed: int, progress: bool) -> tuple[pd.DataFrame | None, str]:
    """The table, or why there is none."""
    if fit.cells is None and cells is None:
        return None, "The fit was loaded without its cells: give them to learn which genes to believe."
    expression = fit.expression(cells)
    try:
        return gene_reliability(fit, seed=seed, splits=2, cells=expression, progress=progress), ""
    except PerlerInputError as error:
        return None, f"Not known: {error}."


def _described(fit: PerlerFit) -> dict[str, str]:
    """The lines of `perler-jax info`, without those that have sections of their own."""
    parts = SavedFit(
        written_by=package_version(),
        settings=fit.settings,
        reference=fit.reference,
        preprocessing=fit.preprocessing,
        cell_names=fit.cell_names,
        landmarks=fit.landmarks,
        n_metagenes=fit.cell_metagenes.shape[1],
        em_steps=int(fit.em.n_steps),
        em_converged=bool(fit.em.converged),
        log_likelihood=float(fit.em.log_likelihood),
        alpha=float(fit.weights.alpha[0]),
        beta=float(fit.weights.beta[0]),
        mixture=fit.mixture,
        tuned=fit.tuning is not None,
        scores=fit.scores,
        seconds=fit.seconds,
    )
    return {name: text for name, text in describe_fit(parts).items() if not name.startswith("  ")}


def _predictor(fit: PerlerFit) -> str:
    table = choice_of_fit(fit).table
    rows = [
        f'<tr><td class="number">{share:.0%}</td><td>{html.escape(str(name))}</td><td>{kind}</td></tr>'
        for name, kind, share in table.itertuples()
        if share >= 0.005
    ]
    return f"<table><tr><th>share</th><th>way to carry a gene</th><th>kind</th></tr>{''.join(rows)}</table>"


def _belief(table: pd.DataFrame | None, untold: str) -> str:
    if table is None:
        return f"<p>{html.escape(untold)}</p>"
    counts = table["flag"].value_counts()
    told = ", ".join(f"<b>{counts.get(each, 0)}</b> {each}" for each in ("good", "doubtful", "poor"))
    others = table[~table["is_landmark"].astype(bool)].sort_values("predicted", ascending=False)
    best, worst = others[others["flag"] == "good"].head(_SHOWN), others[others["flag"] == "poor"].tail(_SHOWN)
    note = (
        '<p class="note">Of genes that have no map the score to expect is learned from landmarks that were '
        "predicted without their maps; the column reason of the result's var says the same of every gene.</p>"
    )
    return (
        f"<p>Of {len(table)} genes: {told}.</p>{_genes('Expected best', best)}{_genes('Poor', worst)}{note}"
    )


def _genes(title: str, table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    rows = [
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(reason))}</td></tr>"
        for name, reason in table["reason"].items()
    ]
    return f"<h3>{title}</h3><table><tr><th>gene</th><th>why</th></tr>{''.join(rows)}</table>"


def _picture(fit: PerlerFit) -> str:
    """The score of every landmark, as an SVG in the page."""
    figure = Figure(figsize=(8.5, max(2.5, min(12.0, 0.17 * len(fit.landmarks) + 1.0))), layout="constrained")
    draw_scores(fit, ax=figure.add_subplot())
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


def _pairs(pairs: dict[str, str]) -> str:
    rows = [
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in pairs.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"
