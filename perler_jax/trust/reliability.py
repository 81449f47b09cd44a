"""Which predicted genes to believe: one table for all genes of the cells, with a word on each."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from tqdm import tqdm

from perler_jax.fit import PerlerFit
from perler_jax.inputs.data import CellExpression
from perler_jax.settings import device_precision
from perler_jax.trust.predictor import (
    LandmarkTable,
    fold_predictors,
    gene_blocks,
    landmark_table,
    whole_predictor,
)
from perler_jax.trust.reliability_model import fit_reliability
from perler_jax.trust.signals import SIGNALS, gene_signals, reference_agreement
from perler_jax.trust.split_halves import SplitHalves, random_halves

__all__ = ["gene_reliability"]

_FEWEST_CELLS = 10
_SAME_PATTERN = 0.5  # split-half reliability: half of the pattern's variance is noise
_POOR, _GOOD = 0.3, 0.5  # scores
# The other signals add nothing to these at genes left out (experiments/trust).
_LEARNED_FROM = ("split_half", "regression_agreement")


def gene_reliability(
    fit: PerlerFit,
    genes: Sequence[str] | None = None,
    *,
    seed: int,
    splits: int = 4,
    level: float = 0.9,
    cells: Any = None,
    progress: bool = False,
) -> pd.DataFrame:
    """How far to believe the prediction of each gene.

    Landmarks are judged as they were predicted by the fold that never saw them, all other genes by the whole
    fit; what the signals of landmarks say of their held-out scores is learned and applied to all.

    Args:
        fit: a fit with held-out landmarks.
        genes: names; None is every gene of the cells.
        seed: of the random halves of the cells.
        splits: how many pairs of halves.
        level: chance that the interval of a predicted score holds it.
        cells: expression of the fitted cells, for a fit that was loaded without it.
        progress: show a progress bar.

    Returns:
        One row per gene:

        - ``flag`` (good, doubtful, poor) and ``reason``, in words;
        - ``nested``: the held-out score of a landmark, the one to believe where there is one;
        - ``predicted``, ``predicted_lower``, ``predicted_upper``: held-out score that a gene with such
          signals has, with its interval; for a landmark by a model that was not shown it;
        - ``predicted_with_reference``: the same with ``agreement`` as one more signal, for landmarks;
        - ``agreement``: of a landmark's correlations with the others, cells against reference;
        - ``detection_rate``: share of cells with the gene; and the signals of `gene_signals`;
        - ``spatial_rank``: 1 for the gene of the largest ``spatial_share`` among those asked for.

    Raises:
        PerlerInputError: unknown genes, no expression, or a fit without held-out landmarks.
    """
    expression = fit.expression(cells)
    names = expression.genes if genes is None else np.asarray(list(genes)).astype(str)
    detected = pd.Series(expression.detected(), index=expression.genes)
    with device_precision(fit.settings.dtype):
        landmarks = landmark_table(fit, expression)
        halves = random_halves(expression.n_cells, splits, seed=seed)
        known = _landmark_signals(fit, landmarks, halves, progress)
        others = [str(name) for name in names[~np.isin(names, landmarks.names)]]
        rest = _other_signals(fit, expression, landmarks, others, halves, progress)
    for table in (known, rest):
        table.insert(0, "detection_rate", detected.reindex(table.index).to_numpy())
    nested = fit.scores["nested"].to_numpy(np.float64)
    known.insert(0, "nested", nested)
    known["agreement"] = reference_agreement(landmarks.cells, landmarks.reference, landmarks.measured)
    _predict(known, rest, 2 * nested - 1 if fit.settings.objective == "roc" else nested, level)
    if fit.settings.objective == "roc":
        for table, columns in ((known, _PREDICTED), (rest, _PREDICTED[:3])):
            table[columns] = (table[columns] + 1) / 2
    table = pd.concat([known, rest]).reindex(names)
    table.index.name = "gene"
    table["spatial_rank"] = table["spatial_share"].rank(ascending=False, method="first").astype("Int64")
    table["is_landmark"] = np.isin(names, landmarks.names)
    judged = [_judge(row, expression.n_cells) for row in table.to_dict("records")]
    table["flag"], table["reason"] = zip(*judged, strict=True) if judged else ((), ())
    return table[_COLUMNS]


_PREDICTED = ["predicted", "predicted_lower", "predicted_upper", "predicted_with_reference"]
_COLUMNS = [
    *("flag", "reason", "is_landmark", "nested", *_PREDICTED, "agreement", "detection_rate"),
    *(*SIGNALS, "spatial_rank"),
]


def _landmark_signals(
    fit: PerlerFit, landmarks: LandmarkTable, halves: Int[np.ndarray, "splits 2 half"], progress: bool
) -> pd.DataFrame:
    """Signals of every landmark from the fold that never saw it."""
    table = pd.DataFrame(np.nan, index=pd.Index(landmarks.names.astype(str)), columns=list(SIGNALS))
    folds = zip(fold_predictors(fit, landmarks), fold_predictors(fit, landmarks, plain=True), strict=True)
    bar = functools.partial(tqdm, desc="held-out landmarks", unit="fold", disable=not progress, leave=False)
    for (genes, predictor), (_, plain) in bar(folds):
        names, values = landmarks.names[genes], landmarks.cells[:, genes]
        how = (SplitHalves(predictor, halves), fit.reference.coordinates)
        found = gene_signals(
            *(predictor, plain, names, values, *how),
            sections=fit.reference.sections,
            measured=landmarks.measured,
        )
        table.iloc[genes] = pd.DataFrame(found)[list(SIGNALS)]
    return table


def _other_signals(
    fit: PerlerFit,
    expression: CellExpression,
    landmarks: LandmarkTable,
    genes: list[str],
    halves: Int[np.ndarray, "splits 2 half"],
    progress: bool,
) -> pd.DataFrame:
    """Signals of genes that are no landmarks, block by block."""
    predictor, plain = (whole_predictor(fit, expression, plain=only) for only in (False, True))
    # Values, and patterns of them in several forms.
    size, blocks = gene_blocks(fit, expression, genes, columns=4)
    how = (SplitHalves(predictor, halves), fit.reference.coordinates)
    parts = [pd.DataFrame(columns=list(SIGNALS), dtype=float)]
    with tqdm(total=len(genes), desc="reliability", unit="gene", disable=not progress, leave=False) as bar:
        for names, _, values in blocks:
            found = gene_signals(
                *(predictor, plain, names, values, *how),
                sections=fit.reference.sections,
                measured=landmarks.measured,
                width=size,
            )
            parts.append(pd.DataFrame(found, index=names.astype(str)))
            bar.update(len(names))
    return pd.concat(parts[1:] or parts)


def _predict(known: pd.DataFrame, rest: pd.DataFrame, scores: np.ndarray, level: float) -> None:
    """Fill in the predicted scores; those of landmarks come from models that never saw them."""
    model = fit_reliability(_features(known, _LEARNED_FROM), scores)
    for table, found in (
        (known, model.predict_landmarks(level=level)),
        (rest, model.predict(_features(rest, _LEARNED_FROM), level=level)),
    ):
        table["predicted"], table["predicted_lower"], table["predicted_upper"] = found
    with_reference = fit_reliability(_features(known, (*_LEARNED_FROM, "agreement")), scores)
    known["predicted_with_reference"] = with_reference.predict_landmarks(level=level)[0]


def _features(table: pd.DataFrame, names: tuple[str, ...]) -> Float[np.ndarray, "genes signals"]:
    """Correlations on a scale on which a regression can add them up, finite at one."""
    return np.arctanh(np.clip(table[list(names)].to_numpy(np.float64), -0.995, 0.995))


def _judge(row: dict[Any, Any], n_cells: int) -> tuple[str, str]:
    """A flag and its reason; what is wrong with the data comes before what the scores say."""
    seen = round(row["detection_rate"] * n_cells)
    if seen < _FEWEST_CELLS:
        return "poor", f"seen in {seen} of {n_cells} cells: too few for a pattern"
    if not row["split_half"] >= _SAME_PATTERN:
        return (
            "poor",
            f"two halves of the cells give different patterns (reliability {row['split_half']:.2f})",
        )
    if np.isfinite(row["nested"]):
        score, what = row["nested"], f"held out, its reference was predicted with score {row['nested']:.2f}"
    else:
        score = row["predicted"]
        what = f"score of {score:.2f} expected ({row['predicted_lower']:.2f} to {row['predicted_upper']:.2f})"
    return ("poor" if score < _POOR else "doubtful" if score < _GOOD else "good"), what
