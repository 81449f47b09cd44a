"""Labels of the cells carried to the locations: types in space, and numbers such as a score or an age."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.annotation import result_shell
from perler_jax.fit import PerlerFit
from perler_jax.labelling.cell_labels import CellLabels, read_labels
from perler_jax.labelling.opinions import NAMES, held_out_opinions, opinions_at_locations, sides_of
from perler_jax.labelling.pooling import calibration_error, fit_pool, pool
from perler_jax.settings import device_precision
from perler_jax.trust.predictor import spread, whole_predictor

__all__ = ["transfer"]

logger = logging.getLogger("perler_jax")


def transfer(
    fit: PerlerFit,
    labels: Any,
    *,
    kind: str = "auto",
    cells: Any = None,
) -> AnnData:
    """Carry labels of the cells to the locations: categories with probabilities, numbers with errors.

    Args:
        fit: a fit.
        labels: name of a column of the cells' ``obs``, or several; or a Series or DataFrame by cell name, in
            any order. A category may be missing (NaN): such cells take no part.
        kind: "categories", "numbers", or "auto": texts, yes and no and pandas' categories are the first,
            numbers the second.
        cells: expression of the fitted cells, for a fit that was loaded without it.

    Returns:
        AnnData of the locations without genes, with all that the reference says of them. Of categories named
        NAME: ``obsm["transferred_NAME"]`` (locations, categories) probabilities, rows sum to one;
        ``obs["transferred_NAME"]`` the likeliest; ``obs["transferred_NAME_probability"]`` its probability;
        ``obs["transferred_NAME_entropy"]`` in nats; ``uns["transferred_NAME"]``: ``categories``, the names of
        the columns of probabilities, and how they came about. Of numbers: ``obs["transferred_NAME"]`` the
        mean and ``obs["transferred_NAME_standard_error"]``, from the disagreement of the cells.

    Raises:
        PerlerInputError: an unknown column, cells without a label of their own, one category or too many,
            missing numbers, or a loaded fit without its cells.

    Probabilities pool averages over cells of several sharpness and a regression on the landmarks. How far
    each is trusted, and how sure they are together, is learned on cells that play locations; what that
    reached is in ``uns`` (``right``, ``calibration_error``). It holds where cells and map are of one kind:
    locations that are single cells, measured as these are. Across laboratories probabilities are too sure.
    Where a location is an average of many cells, a probability is rather a share of its cells.
    """
    expression = None if cells is None and fit.cells is None else fit.expression(cells)
    read = read_labels(labels, fit.cell_names, expression, kind)
    expression = fit.expression(cells)
    shell = result_shell(fit.reference, np.zeros(0, str), fit.landmarks, fit.scores, fit.provenance())
    with device_precision(fit.settings.dtype):
        sides = sides_of(fit, expression) if any(each.categories is not None for each in read) else None
        predictor = (
            whole_predictor(fit, expression) if any(each.numbers is not None for each in read) else None
        )
        for each in read:
            if each.categories is not None:
                _put_categories(shell, each, sides)
            else:
                _put_numbers(shell, each, predictor)
    return shell


def _put_categories(shell: AnnData, labels: CellLabels, sides: Any) -> None:
    assert labels.categories is not None
    opinions, own = held_out_opinions(sides, labels)
    exponents = fit_pool(opinions, own)
    tested = pool(opinions, exponents)
    found = pool(opinions_at_locations(sides, labels), exponents)
    name = f"transferred_{labels.name}"
    logarithms = np.log(np.maximum(found, np.finfo(np.float64).tiny))
    shell.obsm[name] = found.astype(np.float32)
    shell.obs[name] = pd.Categorical.from_codes(found.argmax(axis=1), categories=list(labels.categories))
    shell.obs[f"{name}_probability"] = found.max(axis=1)
    shell.obs[f"{name}_entropy"] = -(found * logarithms).sum(axis=1)
    right = float((tested.argmax(axis=1) == own).mean())
    shell.uns[name] = {
        "categories": np.asarray(labels.categories, dtype=object),
        "exponents": {key: float(each) for key, each in zip(NAMES, exponents, strict=True) if each > 1e-3},
        "right": right,
        "calibration_error": calibration_error(tested, own),
        "meaning": "right, calibration_error: of cells that played locations, by the labels of the others",
    }
    logger.info(
        "labels %r: right at %.0f %% of %d cells that played locations", labels.name, 100 * right, len(own)
    )


def _put_numbers(shell: AnnData, labels: CellLabels, predictor: Any) -> None:
    assert labels.numbers is not None
    middle, scale = float(labels.numbers.mean()), float(labels.numbers.std()) or 1.0
    values = ((labels.numbers - middle) / scale)[:, None]
    # No landmark has an empty name: none is left out of the regression.
    found = spread(predictor, np.array([""], dtype=str), values)
    name = f"transferred_{labels.name}"
    shell.obs[name] = np.asarray(found.mean, np.float64)[:, 0] * scale + middle
    shell.obs[f"{name}_standard_error"] = np.asarray(found.standard_error, np.float64)[:, 0] * scale
