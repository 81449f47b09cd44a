"""What one prediction gains over another, gene by gene."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["paired_gain"]


def paired_gain(scores: np.ndarray, plain: np.ndarray, *, seed: int, draws: int) -> dict[str, Any]:
    """Mean gain over genes, its 95 % bootstrap interval over genes, and how many genes are better."""
    gain = scores - plain
    picked = np.random.default_rng(seed).integers(0, len(gain), (draws, len(gain)))
    low, high = np.quantile(gain[picked].mean(axis=1), [0.025, 0.975])
    return {
        "gain": float(gain.mean()),
        "gain_95": [float(low), float(high)],
        "genes_better": int((gain > 0).sum()),
    }
