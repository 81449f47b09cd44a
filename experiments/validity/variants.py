"""Reduction, tuning, poor genes and location weights: the method with one choice changed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from experiments.validity.evaluation import DISTANCES, Landmarks, evaluate, fit_mapping, predict
from perler_jax import PerlerFit
from perler_jax.em import fit_em, initial_params
from perler_jax.held_out.folds import make_folds
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.metagenes import Reduction
from perler_jax.scores.metrics import pearson_by_gene

__all__ = ["location_weights", "paired", "poor_genes", "reduction", "tuning"]

POSTERIOR = np.array([0.5, 0.0])


def reduction(
    marks: Landmarks, points: np.ndarray, folds: list[np.ndarray], config: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Number of metagenes and kind of reduction.

    Args:
        marks: all landmarks.
        points: weights to choose from.
        folds: of the landmarks.
        config: `n_metagenes`, `pca`.

    Returns:
        A row per variant, distance and gene; and for each distance the paired test of the reduction with the
        most metagenes up to 60 against none.
    """
    kinds: list[tuple[str, int, Reduction]] = [(f"PLSC {n}", n, "plsc") for n in config["n_metagenes"]]
    kinds += [(f"PCA {config['pca']}", config["pca"], "pca"), ("none", len(marks.names), "none")]
    tables = {
        name: evaluate(marks, folds, points, n_metagenes=n, reduction=kind).assign(variant=name)
        for name, n, kind in kinds
    }
    usual = f"PLSC {max(n for n in config['n_metagenes'] if n <= 60)}"
    return pd.concat(tables.values(), ignore_index=True), _compared(tables[usual], tables["none"])


def tuning(
    fit: PerlerFit, marks: Landmarks, tuned: dict[str, np.ndarray]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Tuned weights against the posterior itself (alpha 1/2, beta 0), on the held-out fits of a fit.

    Args:
        fit: with its held-out fits.
        marks: its landmarks.
        tuned: alpha and beta for each distance. Two numbers chosen on all landmarks together: what one gene
            adds to its own score that way is some thousandths (experiments/fly: held out against nested).
    """
    assert fit.held_out is not None
    cells, reference = (jnp.asarray(side, jnp.float32) for side in (marks.cells, marks.reference))
    tables: dict[str, list[pd.DataFrame]] = {"tuned": [], "posterior": []}
    for name, distance in DISTANCES.items():
        scorer = HeldOutScorer(fit.held_out, cells, reference, covariance=distance)
        points = np.stack([tuned[name], POSTERIOR])
        for variant, point, scores in zip(tables, points, scorer(points), strict=True):
            pattern = predict(marks, marks.cells, point, name, n_metagenes=fit.cell_metagenes.shape[1])
            columns = {
                "gene": marks.names,
                "distance": name,
                "held_out": scores,
                "reconstruction": pearson_by_gene(pattern, marks.reference),
            }
            tables[variant].append(pd.DataFrame(columns).assign(variant=variant))
    one, other = (pd.concat(each, ignore_index=True) for each in tables.values())
    return pd.concat([one, other], ignore_index=True), _compared(one, other, "held_out")


def poor_genes(
    marks: Landmarks,
    points: np.ndarray,
    one_by_one: dict[str, np.ndarray],
    n_folds: int,
    config: dict[str, Any],
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The well-predicted landmarks before and after the poorly predicted ones are taken out of both sides.

    Args:
        marks: all landmarks.
        points: weights to choose from.
        one_by_one: for each distance the held-out scores that say which landmarks are poor.
        n_folds: of the landmarks, before and after.
        config: `below`, what is poor; `bootstrap`, draws over genes.
        seed: of folds and bootstrap.
    """
    tables, found = [], {}
    for name in DISTANCES:
        well = one_by_one[name] >= config["below"]
        some = marks.take(well)
        variants = {"all landmarks": marks, "well-predicted only": some}
        scores = {
            variant: evaluate(
                used, make_folds(len(used.names), n_folds, seed=seed), points, distances=(name,)
            ).assign(variant=variant)
            for variant, used in variants.items()
        }
        tables += scores.values()
        old, new = (each.set_index("gene")["nested"].loc[some.names].to_numpy() for each in scores.values())
        rng = np.random.default_rng(seed)
        draws = (new - old)[rng.integers(len(new), size=(config["bootstrap"], len(new)))].mean(axis=1)
        found[name] = {
            "well": int(well.sum()),
            "poor": int((~well).sum()),
            "before": float(old.mean()),
            "after": float(new.mean()),
            "change_95": [float(each) for each in np.quantile(draws, (0.025, 0.975))],
            "genes_better": int((new > old).sum()),
        }
    return pd.concat(tables, ignore_index=True), found


def location_weights(fit: PerlerFit, marks: Landmarks, max_steps: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """How fast EM converges with pi fixed and learned; plain as in the paper, and fixed also accelerated."""
    _, x, r = fit_mapping(marks, fit.cell_metagenes.shape[1])
    rows, found = [], {}
    for learned, accelerate in ((False, False), (False, True), (True, False)):
        em = fit_em(
            x,
            r,
            initial_params(x, r),
            learn_location_weights=learned,
            accelerate=accelerate,
            max_steps=max_steps,
        )
        name = f"pi {'learned' if learned else 'fixed'}, {'accelerated' if accelerate else 'plain'} EM"
        history = np.asarray(em.history, np.float64)
        rows += [{"variant": name, "step": i, "log_likelihood": value} for i, value in enumerate(history)]
        found[name] = {
            "steps": int(em.n_steps),
            "converged": bool(em.converged),
            "log_likelihood": em.log_likelihood,
        }
        if learned and em.params.log_location_weights is not None:
            pi = np.exp(np.asarray(em.params.log_location_weights, np.float64))
            entropy = -(pi * np.log(np.maximum(pi, 1e-300))).sum()  # 0 ln 0 is 0
            found[name]["effective_locations"] = float(np.exp(entropy))
    return pd.DataFrame(rows), found


def _compared(one: pd.DataFrame, other: pd.DataFrame, unseen: str = "nested") -> dict[str, Any]:
    """Paired tests for either distance, of unseen landmarks and of those in the fit."""

    def scores(table: pd.DataFrame, distance: str, metric: str) -> np.ndarray:
        return table.loc[table["distance"] == distance, metric].to_numpy(np.float64)

    return {
        name: {
            metric: paired(scores(one, name, metric), scores(other, name, metric))
            for metric in (unseen, "reconstruction")
        }
        for name in DISTANCES
    }


def paired(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Means of two sets of scores of the same genes and Wilcoxon's signed-rank test of their differences."""
    return {
        "with": float(one.mean()),
        "without": float(other.mean()),
        "genes_better_with": int((one > other).sum()),
        "p": float(wilcoxon(one, other).pvalue),
    }
