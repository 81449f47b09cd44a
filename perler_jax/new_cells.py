"""Cells that a fit has not seen, put on its map: all parameters stay as they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.given import given_cells, landmark_means, read_as_given
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.labels import few, near_misses
from perler_jax.preprocessing import Preprocessing, preprocess_cells

__all__ = ["place"]

_ALIKE = 3.0  # factor between two normalisations that is more than chance
_AT_ONCE = 128  # landmarks that are made dense


def place(
    fit: PerlerFit, cells: Any, *, totals: Any = None, evidence: CellEvidence | None = None
) -> PerlerFit:
    """Put cells that the fit has not seen on its map, with the old parameters: nothing is fitted.

    Args:
        fit: a fit.
        cells: the new cells (at least two), whatever `fit_perler` takes, with all landmarks, on the scale of
            the cells of the fit. Counts are brought to the total of the fit; landmarks are centred by its
            means.
        totals: (cells,) molecules per cell, where they are known better than from the table.
        evidence: what else is known of where each new cell is from.

    Returns:
        A fit of the new cells by the same mapping. ``cell_positions(fit.place(new))`` and ``posterior``,
        ``mapping`` say where they are from; ``reconstruct`` predicts genes from them, by the paper's weighted
        mean with the alpha and beta of the fit, for shares of experts were learned for its own cells. It has
        no held-out landmarks: its scores are NaN.

    Raises:
        PerlerInputError: cells without some of the landmarks, on another scale or brought to another total,
            fewer than two, or totals or evidence that are not of these cells.

    What differs between the two lots of cells by the way they were made (another chemistry, another
    laboratory, another batch of a fit with ``batch_key``) is not taken off: fit them together where that
    matters.
    """
    expression = read_as_given(cells, fit.given)
    absent = fit.landmarks[~np.isin(fit.landmarks, expression.genes)]
    if len(absent):
        raise PerlerInputError(
            f"expected the {len(fit.landmarks)} landmarks of the fit in the new cells; found no {few(absent)}"
            f"{near_misses(absent, expression.genes)}; a gene that was not measured cannot be left out here: "
            "fit the new cells instead"
        )
    preprocessing = _preprocessing_like(fit, expression, totals)
    if evidence is not None:
        wanted = expression.n_cells, fit.reference.n_locations
        found = len(evidence.of_cells), len(evidence.of_locations)
        if found != wanted:
            raise PerlerInputError(
                f"expected evidence of {wanted[0]} cells at {wanted[1]} locations; found {found[0]} and "
                f"{found[1]}; make it of the new cells"
            )
    return dataclasses.replace(
        fit,
        cells=expression,
        cell_names=expression.cells,
        preprocessing=preprocessing,
        cell_metagenes=_metagenes(fit, expression, preprocessing),
        evidence=evidence,
        given=given_cells(expression, fit.landmarks, preprocessing),
        scores=fit.scores * np.nan,
        held_out=None,
        tuning=None,
        mixture=None,
        levelled=None,
        levelled_held_out=None,
        neighbours=None,
        seconds={},
    )


def _preprocessing_like(fit: PerlerFit, cells: CellExpression, totals: Any) -> Preprocessing:
    """Rows brought to the total that the cells of the fit were brought to."""
    fitted, method = fit.preprocessing, fit.settings.normalisation
    if cells.scale != fitted.scale and {cells.scale, fitted.scale} != {"counts", "linear"}:
        raise PerlerInputError(
            f"expected new cells on the scale of those of the fit ({fitted.scale!r}); found {cells.scale!r}; "
            "give them as those were given"
        )
    own = preprocess_cells(cells, method, totals)
    if method != "none" and (own.target_total is None) != (fitted.target_total is None):
        kinds = ("counts, one total for each cell to be brought to", "values that were normalised already")
        wanted, found = kinds if fitted.target_total is not None else kinds[::-1]
        raise PerlerInputError(
            f"expected new cells as those of the fit were ({wanted}); found {found}; give them as those were "
            "given"
        )
    if own.target_total is not None and fitted.target_total is not None:
        # A cell without molecules has a factor of one, and nothing to multiply by it.
        return dataclasses.replace(
            own,
            target_total=fitted.target_total,
            factors=own.factors * (fitted.target_total / own.target_total),
        )
    factor = float(fitted.factors[0])
    off = float(own.factors[0]) / factor
    if not 1 / _ALIKE < off < _ALIKE:
        raise PerlerInputError(
            f"expected new cells brought to the same total as those of the fit; found values that are "
            f"{max(off, 1 / off):.3g} times {'smaller' if off > 1 else 'larger'}; normalise both in one way, "
            "or give counts of both"
        )
    return dataclasses.replace(own, factors=np.full(cells.n_cells, factor))


def _metagenes(
    fit: PerlerFit, cells: CellExpression, preprocessing: Preprocessing
) -> Float[np.ndarray, "cells metagenes"]:
    """Metagenes of the new cells, centred by the means of the cells of the fit."""
    centres = None if fit.given is None else fit.given.centres
    if centres is None:
        if fit.cells is None:
            raise PerlerInputError(
                "expected a fit that knows the means of its landmarks; found one that an older version "
                "saved, without its cells; give them: load_fit(path, cells=...)"
            )
        centres = landmark_means(fit.cells, fit.landmarks, fit.preprocessing)
    found = np.zeros((cells.n_cells, fit.cell_metagenes.shape[1]))
    for start in range(0, len(fit.landmarks), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        values = preprocessing.apply(np.asarray(cells.dense(fit.landmarks[some]), np.float64))
        found += (values - centres[some]) @ fit.metagenes.cell_loadings[some]
    return found.astype(fit.settings.dtype)
