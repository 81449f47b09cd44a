"""L1-penalised regression by least angles (Efron et al. 2004, Annals of Statistics), from the Gram matrix."""

from __future__ import annotations

import numpy as np

__all__ = ["lasso"]


def lasso(gram: np.ndarray, cross: np.ndarray, steps: int) -> np.ndarray:
    """Coefficients after so many steps along the path of lasso solutions, from none to least squares.

    Each step ends where a predictor joins or leaves.

    Args:
        gram: (predictors, predictors) X'X.
        cross: (predictors,) X'y; constant predictors have rows of zeros and never join.
        steps: at most.
    """
    coefficients, left = np.zeros(len(cross)), np.array(cross, float)
    small = 1e-9 * np.abs(left).max(initial=0.0)
    active: list[int] = []
    joins = int(np.abs(left).argmax()) if small > 0 else -1
    for _ in range(steps):
        if joins >= 0:
            active.append(joins)
        largest = np.abs(left[active]).max(initial=0.0)
        if largest <= small:
            break
        block = gram[np.ix_(active, active)]
        block = block + 1e-10 * np.trace(block) / len(active) * np.eye(len(active))
        direction = np.linalg.solve(block, np.sign(left[active]))
        slope = gram[:, active] @ direction
        step, joins = largest, -1
        for sign in (1.0, -1.0):
            with np.errstate(divide="ignore", invalid="ignore"):
                until = (largest - sign * left) / (1.0 - sign * slope)
            until[active] = np.inf
            until[~(until > 1e-9 * largest)] = np.inf
            if until.min() < step:
                step, joins = float(until.min()), int(until.argmin())
        with np.errstate(divide="ignore", invalid="ignore"):
            vanish = -coefficients[active] / direction
        vanish[~(vanish > 1e-12)] = np.inf
        leaves = -1
        if vanish.min() < step:
            step, joins, leaves = float(vanish.min()), -1, int(vanish.argmin())
        coefficients[active] += step * direction
        left -= step * slope
        if leaves >= 0:
            coefficients[active.pop(leaves)] = 0.0
            continue
        if joins < 0:  # least squares: nothing is left to explain
            break
    return coefficients
