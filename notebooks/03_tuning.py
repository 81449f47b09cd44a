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
# # Tuning: how sharply should a cell vote?
#
# *How are alpha and beta chosen, by a grid and by a gradient, and is the choice worth anything?*
#
# A cell spreads one vote over all locations, $w \sim \exp(-\alpha D^2 - \beta D)$ with *D* its distance from each.
# Large alpha and beta: few cells speak for a location, and their noise shows. Small ones: all cells speak for all
# locations, and patterns blur. Which is best is asked of genes whose map is known and was hidden.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd

import perler_jax as pj
from perler_jax.held_out.cross_validation import held_out_predictions
from perler_jax.held_out.nested import nested_by_newton
from perler_jax.held_out.objective import HeldOutObjective
from perler_jax.held_out.prediction import HeldOutParams, make_held_out_data
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.search import objective_terms
from perler_jax.held_out.tuner import tune
from perler_jax.plotting import plot_objective, plot_pattern
from perler_jax.trust.subsets import landmark_expression
from perler_jax.weights import WeightParams

# %% [markdown]
# ## Held-out fits, made once
#
# For every landmark: hide it on both sides, find metagenes and the mapping anew. The mapping does not depend on
# alpha and beta, so these 30 fits serve every value that we try. `fit_perler` makes them, tunes, and keeps both.

# %%
egg = pj.simulate_embryo(seed=1, n_locations=600, n_cells=300, n_genes=100, n_landmarks=30)
coordinates = np.asarray(egg.reference.obsm["spatial"])
fit = pj.fit_perler(egg.cells, egg.reference, settings=pj.PerlerSettings(n_metagenes=12), progress=False)
print(fit.held_out)
print(fit.tuning)

# %% [markdown]
# ## The surface
#
# `HeldOutScorer` predicts every hidden landmark at any (alpha, beta) and correlates it with its map: a score per
# point and landmark. The objective is $J = -\frac12 \sum \ln (1 - \rho^2)$ over landmarks, in nats: what the
# predictions say of the maps, if both were normal. It rewards a gene that gets from 0.8 to 0.9 more than one that
# gets from 0.1 to 0.2.
#
# By *grid*: all points, then the best.

# %%
y, h = landmark_expression(fit)  # centred log2 of the landmarks, as in the fits
scorer = HeldOutScorer(fit.held_out, y.astype(np.float32), h.astype(np.float32))
alphas, betas = np.geomspace(0.002, 2.0, 19), np.geomspace(0.05, 6.0, 17)
grid = np.stack(np.meshgrid(alphas, betas, indexing="ij"), axis=-1)
scores = scorer(grid.reshape(-1, 2)).reshape(*grid.shape[:2], -1)  # alphas x betas x landmarks
surface = np.asarray(objective_terms(scores)).sum(axis=-1)
best = np.unravel_index(surface.argmax(), surface.shape)
print(
    f"best of {surface.size} points: alpha {alphas[best[0]]:.3f}, beta {betas[best[1]]:.3f}, J {surface.max():.3f}"
)

# %% [markdown]
# By *gradient*: a coarse look over the whole plane on some of the genes, patches around the best on a sample of the
# data, then L-BFGS with exact slopes on everything, which ends as soon as the slopes promise no more than 0.3 % of J.
# This is what `fit_perler` does. Our grid, with the path of the last part in white, its end a star.

# %%
tuning = fit.tuning
figure, ax = plt.subplots(figsize=(6, 3.9), layout="constrained")
plot_objective(alphas, betas, surface, path=tuning.path[:, :2], ax=ax)
ax.set_title(f"{surface.size} points of a grid")
plt.show()
print(
    f"gradient: alpha {tuning.alpha:.3f}, beta {tuning.beta:.3f}, J {tuning.objective:.3f}; "
    f"points evaluated on everything: {len(tuning.points)}"
)

# %% [markdown]
# **What to look at.** The white lines are 0.1, 0.5, 1 and 2 nats below the top. They are long: alpha and beta trade
# against each other, so their single values mean little, and two runs may report quite different ones with the same
# predictions. What counts is to be on the ridge.
# The ridge even reaches the left edge, beta near zero: here alpha alone would do.
#
# **Where it misleads.** There can be two hills. A gradient alone finds the one it starts on; that is why a coarse
# grid comes first. And J takes a square: a prediction that is the *negative* of its map is rewarded like a right
# one. `PerlerSettings(objective="signed")` punishes it. Look for negative scores:

# %%
print("lowest held-out score:", tuning.scores.min().round(2))

# %% [markdown]
# ## What the choice does to a gene
#
# One hidden landmark at the optimum, and far off it on either side.

# %%
gene = int(np.argsort(tuning.scores)[len(tuning.scores) // 2])  # a gene of middling score
points = {
    "flat: 0.002, 0.05": (0.002, 0.05),
    f"tuned: {tuning.alpha:.2f}, {tuning.beta:.2f}": (tuning.alpha, tuning.beta),
    "sharp: 2, 6": (2.0, 6.0),
}
figure, axes = plt.subplots(1, 4, figsize=(14, 1.9), layout="constrained")
plot_pattern(h[:, gene], coordinates, ax=axes[0], title=f"{fit.landmarks[gene]}, map")
for ax, (name, point) in zip(axes[1:], points.items(), strict=True):
    predicted = held_out_predictions(
        fit.held_out, WeightParams.single(*point), scorer.cells, scorer.reference
    )
    values = np.asarray(predicted)[:, gene]
    plot_pattern(
        values, coordinates, ax=ax, title=f"{name} (r = {np.corrcoef(values, h[:, gene])[0, 1]:.2f})"
    )
plt.show()

# %% [markdown]
# ## Is the score honest?
#
# The optimum was chosen with the help of the very genes that it is scored on. The *nested* score chooses alpha and
# beta again for each gene, without that gene's term. With two parameters and thirty genes the difference is small,
# and that is the point: report the nested one, and worry where they differ.
#
# The nested optima (red, below) lie together, so no single gene decides. They need not lie on the star above: both
# are on the ridge, and how far along it a search comes to rest is of no consequence.

# %%
pd.DataFrame(
    {
        "alpha": [tuning.alpha, np.nan],
        "beta": [tuning.beta, np.nan],
        "mean score": [tuning.scores.mean(), tuning.nested_scores.mean()],
    },
    index=["at the common optimum", "nested, one optimum per gene"],
).round(3)

# %%
figure, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
plot_objective(alphas, betas, surface, ax=ax)
ax.plot(tuning.nested_beta, tuning.nested_alpha, "o", ms=4, color="#D1495B", mec="white", mew=0.4)
ax.set_title("one optimum per left-out gene (red)")
plt.show()

# %% [markdown]
# ## More than two parameters
#
# A grid dies with the number of parameters; a gradient does not. `HeldOutObjective` is J as a differentiable
# function of a tree of parameters, and `tune` climbs it. Neighbours in the tissue are alike, so let us also smooth
# each prediction over physical positions, by a Gaussian whose width is tuned together with alpha and beta.

# %%
objective = HeldOutObjective(fit.held_out, make_held_out_data(y, h, coordinates))
start = HeldOutParams(alpha=tuning.alpha, beta=tuning.beta, smoothing=8.0)  # micrometres
found = tune(objective, start, progress=False)
print(found)
print({name: round(float(value), 3) for name, value in vars(found.params).items() if value is not None})

# %% [markdown]
# The path, step by step. The first row is the start: 8 micrometres cost half a nat at the old weights. Smoothing takes
# over some of the averaging over noise, so the votes become sharper with it.

# %%
path = pd.DataFrame(
    [
        {"alpha": float(at.alpha), "beta": float(at.beta), "smoothing": float(at.smoothing), "J": value}
        for at, value in found.path
    ]
)
path.round(3)

# %%
nested = nested_by_newton(objective, found, progress=False)  # each gene's parameters without its own term
gain = objective.scores(nested.params, per_fold=True) - tuning.nested_scores
print(f"nested score {tuning.nested_scores.mean():.3f} -> {tuning.nested_scores.mean() + gain.mean():.3f}")
figure, ax = plt.subplots(figsize=(9, 2.6), layout="constrained")
order = np.argsort(gain)
ax.bar(fit.landmarks[order].astype(str), gain[order], color=np.where(gain[order] > 0, "#35608D", "#E69F00"))
ax.tick_params(axis="x", rotation=90, labelsize=8)
ax.axhline(0, color="0.5", lw=0.8)
ax.set(ylabel="gain of nested score", xlim=(-0.6, len(gain) - 0.4))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# J rose, as it must. Was it worth it? The mean score *fell*: this map is coarse (14 micrometres from location to
# location), seven-fold stripes are three locations apart, and smoothing washes them out (yellow) while all broad
# patterns gain a little (blue). J liked the exchange because it counts the good scores most.
#
# **What to look at.** Never the mean alone: if you care for stripes, this picture is your answer. On the finer map of
# the real fly the same smoothing helps (`experiments/priors`); it is a question to your data, not a rule.
#
# **Where it misleads.** Every parameter that is tuned makes the plain held-out score a little too good; with one
# weight per landmark (`landmark_weights`) it would be much too good. Nest, always. The default predictor of
# `fit_perler` chooses among smoothed and other predictions for you.

# %% [markdown]
# ## All that makes a prediction, in one gradient
#
# The predictor of a fit mixes weighted means, a regression on landmarks and smoothing, in shares that it learns among
# fixed candidates. `differentiable_objective` makes one function of all those numbers: alpha and beta of every mean,
# the shares, the ridge of the regression, length and share of the smoothing. `jax.grad` differentiates it, and any
# optimiser climbs it.

# %%
everything, params = pj.differentiable_objective(fit)
slopes = jax.jit(jax.grad(lambda at: everything(at).sum()))(params)


def rounded(tree):
    return {
        name: [round(float(x), 2) for x in np.ravel(leaf)]
        for name, leaf in vars(tree).items()
        if leaf is not None
    }


pd.DataFrame({"value": rounded(params), "slope of J": rounded(slopes)})

# %%
logs = jax.tree.map(jnp.log, params)  # all are positive
step = jax.jit(jax.value_and_grad(lambda logs: -everything(jax.tree.map(jnp.exp, logs)).sum()))
optimiser = optax.adam(0.05)
state, climbed = optimiser.init(logs), []
for _ in range(30):
    value, slope = step(logs)
    climbed.append(-float(value))
    updates, state = optimiser.update(slope, state)
    logs = optax.apply_updates(logs, updates)
print(f"J {climbed[0]:.2f} -> {climbed[-1]:.2f} nats in 30 steps")

# %% [markdown]
# These landmarks were used to climb, so J must rise. Whether a gene that none of them is gains as well, only landmarks
# that were taken away before anything else can say: `pj.cross_validate`.
