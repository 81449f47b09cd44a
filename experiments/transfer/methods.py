"""What is set beside label transfer: votes of nearest neighbours, and of weights learned as by Tangram."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.spatial.distance import cdist

from experiments.compare.levels import standard

__all__ = ["nearest_weights", "tangram_weights", "votes"]


def votes(weights: np.ndarray, codes: np.ndarray, n_categories: int) -> np.ndarray:
    """(locations, categories) share of each category among the cells, by weight; rows sum to one.

    Args:
        weights: (cells, locations), not negative.
        codes: (cells,) category of each cell.
        n_categories: how many there are.
    """
    shares = weights.T @ np.eye(n_categories)[codes] + 1e-12
    return shares / shares.sum(axis=1, keepdims=True)


def nearest_weights(cells: np.ndarray, places: np.ndarray, neighbours: int) -> np.ndarray:
    """(cells, locations) one for the cells nearest to each location by z-scores of each side, else zero.

    Args:
        cells: (cells, genes) log expression.
        places: (locations, genes) likewise.
        neighbours: cells that vote.
    """
    distances = cdist(standard(places), standard(cells))
    nearest = np.argpartition(distances, neighbours - 1, axis=1)[:, :neighbours]
    weights = np.zeros(distances.shape)
    np.put_along_axis(weights, nearest, 1.0, axis=1)
    return weights.T


def tangram_weights(
    cells: np.ndarray, places: np.ndarray, *, epochs: int, learning_rate: float, seed: int
) -> np.ndarray:
    """(cells, locations) weights, rows sum to one: each cell somewhere, so that its genes make the map.

    Tangram's objective in its mode "cells" at its defaults (Biancalani et al. 2021, Nature Methods): the mean
    cosine, over genes, of the map and of what the mapped cells make of it. Written from its description.

    Args:
        cells: (cells, genes) linear expression.
        places: (locations, genes) likewise.
        epochs: steps of Adam.
        learning_rate: of Adam.
        seed: of the start.
    """
    source, target = jnp.asarray(cells, jnp.float32), jnp.asarray(places, jnp.float32)
    target = target / jnp.linalg.norm(target, axis=0)
    optimiser = optax.adam(learning_rate)

    def loss(logits: jax.Array) -> jax.Array:
        made = jax.nn.softmax(logits, axis=1).T @ source
        return -jnp.mean((made * target).sum(axis=0) / jnp.linalg.norm(made, axis=0))

    @jax.jit
    def step(logits: jax.Array, state: optax.OptState) -> tuple[jax.Array, optax.OptState]:
        updates, state = optimiser.update(jax.grad(loss)(logits), state)
        return optax.apply_updates(logits, updates), state

    logits = jax.random.normal(jax.random.key(seed), (len(cells), len(places)))
    state = optimiser.init(logits)
    for _ in range(epochs):
        logits, state = step(logits, state)
    return np.asarray(jax.nn.softmax(logits, axis=1), np.float64)
