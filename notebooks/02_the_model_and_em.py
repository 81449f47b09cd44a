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
# # The model and EM, step by step
#
# *What does the fit assume, and how does it find it?*
#
# We do by hand what `fit_perler` does inside, one step per cell, on a small embryo. Nothing here is needed in
# daily work; all of it helps to know what can go wrong.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

import perler_jax as pj
from perler_jax.density import responsibilities
from perler_jax.em import fit_em, initial_params, m_step
from perler_jax.landmarks import align_landmarks
from perler_jax.metagenes import fit_metagenes
from perler_jax.mixture import expected_statistics, map_locations
from perler_jax.plotting import plot_em_trace, plot_loadings, plot_pattern, plot_posterior
from perler_jax.preprocessing import centre, preprocess_cells, reference_landmarks
from perler_jax.weights import mahalanobis

# %% [markdown]
# ## 1. Two tables on one scale
#
# Counts become `log2(1 + count * factor)`, with a factor per cell that brings all cells to one depth; the map
# becomes `log2(1 + h)`; then every gene is centred on its own side. What is left to differ between the two sides
# is, per gene, a scale, a shift and noise: that is what the model is about.

# %%
egg = pj.simulate_embryo(seed=1, n_locations=600, n_cells=300, n_genes=100, n_landmarks=30)
coordinates = np.asarray(egg.reference.obsm["spatial"])
expression, atlas = pj.as_cells(egg.cells), pj.as_reference(egg.reference)
landmarks = align_landmarks(expression, atlas)

preprocessing = preprocess_cells(expression)
y, _ = centre(np.asarray(preprocessing.apply(expression.dense(landmarks)), float))
h = reference_landmarks(atlas, landmarks)
print(preprocessing)
print("cells x landmarks", y.shape, " locations x landmarks", h.shape)

# %% [markdown]
# ## 2. Metagenes: the directions that both sides know
#
# Partial least squares correlation (PLSC) finds weighted sums of landmarks that vary together in cells and map.
# A gene that is noise on one side gets little weight. Each column below is a metagene, each row a landmark.

# %%
metagenes = fit_metagenes(y, h, n_metagenes=12)
x = jnp.asarray(y @ metagenes.cell_loadings, jnp.float32)  # cells x metagenes
r = jnp.asarray(h @ metagenes.reference_loadings, jnp.float32)  # locations x metagenes
fit = pj.fit_perler(
    egg.cells,
    egg.reference,
    settings=pj.PerlerSettings(n_metagenes=12),
    weights=(0.08, 0.15),
    progress=False,
)
plot_loadings(fit.loadings, n_metagenes=6, n_landmarks=3)
plt.show()

# %% [markdown]
# **Where this misleads.** Signs are arbitrary, and metagenes are no cell types and no pathways: only the space
# that they span matters. Do not read biology into metagene 5.
#
# ## 3. The model
#
# A cell from location *k* has the metagenes of *k*, scaled, shifted, and with noise, each metagene *i* with three
# numbers of its own:
#
# $$x_i = a_i\, r_{ki} + b_i + \sigma_i\, \xi .$$
#
# `sensitivity` is $a$, `background` $b$, `noise` $\sigma$. Which location a cell is from is not known, so a cell is
# drawn from a mixture with one component per location. Three numbers per metagene are all that is fitted: 36 here,
# whatever the number of cells and locations.
#
# ## 4. EM: guess the origins, fit the map, repeat
#
# *E step*: with the present map, how probable is each location for each cell (the responsibilities)? *M step*:
# with these, a weighted straight line of x on r, per metagene, in closed form. It starts from a map that gives the
# reference the mean and spread of the cells, and noise as large as the data.

# %%
params, trace, seen = initial_params(x, r), [], {}
for step in range(31):
    statistics = expected_statistics(params, x, r)  # the E step: one streamed pass, nothing large is kept
    trace.append(float(statistics.log_likelihood))
    seen[step] = params
    params = m_step(statistics, params)

# %% [markdown]
# Cells (discs) and mapped locations (crosses) in the first two of the twelve metagenes. Colour is the true
# position along the egg: a disc should lie among crosses of its colour. The ellipse is one $\sigma$ of the noise.

# %%
along = np.asarray(egg.truth.obs["egg_length"])
of_cell = along[egg.cells.obs["true_location"]]
figure, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained", sharex=True, sharey=True)
for ax, step in zip(axes, (0, 1, 30), strict=True):
    mapped = np.asarray(map_locations(seen[step], r))
    ax.scatter(mapped[:, 0], mapped[:, 1], c=along, cmap="viridis", marker="+", s=18, lw=0.7, vmin=0, vmax=1)
    points = ax.scatter(x[:, 0], x[:, 1], c=of_cell, cmap="viridis", s=16, ec="white", lw=0.3, vmin=0, vmax=1)
    sigma = np.asarray(seen[step].noise)
    corner = (float(np.min(x[:, 0])), float(np.max(x[:, 1])))
    ax.add_patch(Ellipse(corner, 2 * sigma[0], 2 * sigma[1], fc="none", ec="#D1495B", lw=1.5))
    ax.set(title=f"after step {step}", xlabel="metagene 1")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("metagene 2")
figure.colorbar(points, ax=axes, label="egg length (0 is the head)")
plt.show()

# %% [markdown]
# The cloud of crosses hardly moves: its start was good. What falls is the noise, and with it the doubt about each
# cell's origin. Here is one cell, at the start, after one step, and at the end. (Mind the colour bars: each panel has
# its own.)

# %%
cell = 285
figure, axes = plt.subplots(1, 3, figsize=(14, 2.7), layout="constrained")
for ax, step in zip(axes, (0, 1, 30), strict=True):
    gamma = np.asarray(responsibilities(seen[step], x[cell : cell + 1], r))[0]
    truth = int(egg.cells.obs["true_location"].iloc[cell])
    plot_posterior(gamma, coordinates, truth=truth, ax=ax, title=f"after step {step}")
plt.show()

# %% [markdown]
# The log-likelihood can only rise. `fit_em` stops where it no longer does, and takes long strides on the way (a
# stride that lowers the likelihood is thrown away), so that it needs fewer steps than our loop for the same end.

# %%
em = fit_em(x, r)
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
plot_em_trace(np.array(trace), ax=ax)
ax.plot(em.history, marker="s", ms=4, lw=1.2, color="#D1495B")
ax.legend(["thirty plain steps", "fit_em"], frameon=False)
plt.show()
print(em)
print(
    "largest difference in a, relative:", float(jnp.abs(em.params.sensitivity / params.sensitivity - 1).max())
)

# %% [markdown]
# **Where this misleads.** A higher likelihood is a better account of the *cells*, not a better prediction of a
# gene. Only held-out genes tell that (notebook 03).
#
# ## 5. From distances to a prediction
#
# How far is a cell from a location? The Mahalanobis distance *D* counts each metagene in units of its noise. Each
# cell then spreads one vote over the locations, $w \sim \exp(-\alpha D^2 - \beta D)$, and a gene at a location is
# the mean of the cells, weighted by their votes. With $\alpha = 1/2, \beta = 0$ the votes are the posterior.

# %%
distance = np.asarray(mahalanobis(em.params, x, r))  # dense: for a small example only


def predict(gene, alpha, beta):
    """The weighted mean of one gene at every location."""
    logits = -alpha * distance**2 - beta * distance
    votes = np.asarray(jax.nn.softmax(logits, axis=1))  # the votes of each cell sum to one
    values = np.asarray(preprocessing.apply(expression.dense([gene])))[:, 0]
    return votes.T @ values / votes.sum(axis=0)


gene = "mix20"  # in the cells, not in the map
pattern = np.asarray(egg.truth[:, gene].X)[:, 0]
choices = {
    "flat: 0.002, 0.05": (0.002, 0.05),
    "tuned: 0.08, 0.15": (0.08, 0.15),
    "posterior: 0.5, 0": (0.5, 0.0),
}
figure, axes = plt.subplots(1, 4, figsize=(14, 1.9), layout="constrained")
plot_pattern(pattern, coordinates, ax=axes[0], title=f"{gene}, truth")
for ax, (name, (alpha, beta)) in zip(axes[1:], choices.items(), strict=True):
    found = predict(gene, alpha, beta)
    plot_pattern(found, coordinates, ax=ax, title=f"{name} (r = {np.corrcoef(found, pattern)[0, 1]:.2f})")
plt.show()

# %% [markdown]
# Flat votes blur: every location hears every cell. The posterior is too sharp: each location hears one or two
# cells, and their noise is what you see. What is best in between is asked of held-out genes, all together: notebook
# 03. It is not best for each: a broad pattern likes flatter votes than these, a narrow one sharper.
#
# The package does the same without ever holding the matrix of distances:

# %%
by_package = np.asarray(fit.reconstruct([gene]).X)[:, 0]
print("largest difference, log2:", float(np.abs(by_package - predict(gene, 0.08, 0.15)).max()))
