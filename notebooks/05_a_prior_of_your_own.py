# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A prior of your own
#
# *What if I know more about where cells can be from than the landmarks say?*
#
# Dissociation loses cells: here more at one end of an embryo than at the other. We tell the model so, in three
# ways: by a prior of four lines that is written on the spot, by a smooth field over physical positions, and by
# what is known of each single cell. Nothing inside the package is touched.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

import perler_jax as pj
from perler_jax.inference import MappingPriors, fit_map, smooth_location_weights
from perler_jax.plotting import plot_pattern

# %% [markdown]
# ## An embryo that lost its posterior cells
#
# The truth is known: the chance that a cell was captured falls by e^3 from head to tail.

# %%
egg = pj.simulate_embryo(seed=1, n_locations=600, n_cells=10, n_genes=100, n_landmarks=30)
position = np.asarray(egg.truth.obs["egg_length"])  # 0 is the head, 1 the tail
captured = np.exp(-3.0 * position)
egg = pj.simulate_embryo(
    seed=1, n_locations=600, n_cells=300, n_genes=100, n_landmarks=30, location_weights=captured
)
coordinates = np.asarray(egg.reference.obsm["spatial"])
truth = captured / captured.sum()

# %% [markdown]
# The usual fit, with every location equally likely. It gives us both sides in metagenes, which is where the
# mapping lives. (`weights` are given so that nothing is tuned: this is about the mapping.)

# %%
settings = pj.PerlerSettings(n_metagenes=12)
uniform = pj.fit_perler(egg.cells, egg.reference, settings=settings, weights=(0.1, 0.5), progress=False)
x, r = jnp.asarray(uniform.cell_metagenes), jnp.asarray(uniform.reference_metagenes)

# %% [markdown]
# ## Four lines: the chance falls along an axis, we do not know how steeply
#
# A prior on the location weights is a function that makes what sites it likes and returns probabilities.


# %%
def falls_along_the_axis():
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    return jax.nn.softmax(slope * jnp.asarray(position, x.dtype))


by_axis = fit_map(x, r, MappingPriors(location_weights=falls_along_the_axis), progress=False)
print(f"slope {float(by_axis.sites['slope']):.2f}; the truth is -3")

# %% [markdown]
# ## No axis in mind: smooth over physical positions
#
# A Gaussian process over the coordinates. It only says that neighbours are alike.

# %%
smooth = smooth_location_weights(coordinates, length=80.0, n_basis=8)
by_space = fit_map(x, r, MappingPriors(location_weights=smooth), progress=False)

# %% [markdown]
# ## What each is worth
#
# How far the weights are from the truth (Kullback-Leibler, in nats), beside weights learned freely, one by one.

# %%
free = pj.fit_perler(
    egg.cells,
    egg.reference,
    settings=pj.PerlerSettings(n_metagenes=12, learn_location_weights=True),
    weights=(0.1, 0.5),
    progress=False,
)
found = {
    "uniform": np.full(len(truth), 1 / len(truth)),
    "learned freely": np.exp(jax.nn.log_softmax(free.em.params.log_location_weights)),
    "slope along the axis": np.exp(jax.nn.log_softmax(by_axis.params.log_location_weights)),
    "smooth over positions": np.exp(jax.nn.log_softmax(by_space.params.log_location_weights)),
}
distance = {name: float(np.sum(truth * np.log(truth / np.maximum(w, 1e-12)))) for name, w in found.items()}
pd.Series(distance, name="distance from the truth, nats").round(3)

# %%
shown = {"truth": truth, **found}
figure, axes = plt.subplots(1, 5, figsize=(15, 2.2), layout="constrained")
for ax, (name, weights) in zip(axes, shown.items(), strict=True):
    last = name == "smooth over positions"
    unit = "times the average" if last else None
    plot_pattern(len(truth) * np.asarray(weights), coordinates, ax=ax, title=name, unit=unit, limits=(0, 3))
plt.show()

# %% [markdown]
# ## What is known of each single cell
#
# Say the embryo was cut in two before dissociation, so that we know the half of most cells. That is evidence,
# and it goes straight into `fit_perler`, where everything that follows uses it too: held-out genes, weights,
# predictions.

# %%
halves = pd.DataFrame({"head": position < 0.5, "tail": position >= 0.5})
of_cell = np.where(position[egg.cells.obs["true_location"]] < 0.5, "head", "tail").astype(object)
of_cell[::5] = None  # of every fifth we do not know
evidence = pj.region_evidence(of_cell, halves, error=0.02)
known = pj.fit_perler(
    egg.cells, egg.reference, settings=settings, evidence=evidence, weights=(0.1, 0.5), progress=False
)


# %%
def error(fit):
    """Distance from the expected position to the true one, micrometres."""
    expected = fit.posterior().to_numpy() @ coordinates
    return np.linalg.norm(expected - coordinates[egg.cells.obs["true_location"]], axis=1).mean()


print(f"mean position error: {error(uniform):.1f} um without, {error(known):.1f} um with the halves")

# %% [markdown]
# Other knowledge has the same form. `coordinate_evidence` takes rough coordinates with their error; anything else
# is two small matrices, `CellEvidence(of_cells, of_locations)`, whose product is the log likelihood of what you
# know of a cell if it came from a location. It is never multiplied out.
