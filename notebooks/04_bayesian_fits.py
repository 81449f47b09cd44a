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
# # Bayesian fits and ArviZ
#
# *How sure are sensitivity, background and noise, and which way of asking is good enough?*
#
# EM gives the best values of the three parameters of each metagene. The same model is declared in NumPyro, so that
# the whole posterior can be had: by a normal approximation (Laplace), by a variational fit (SVI), and by drawing from
# it (NUTS). All of them take the metagenes of both sides and return the same parameters.

# %%
import arviz as az
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import perler_jax as pj
from perler_jax.inference import (
    compare_metagenes,
    data_scaled_priors,
    fit_laplace,
    fit_map_em,
    fit_svi,
    sample_nuts,
    to_arviz,
)
from perler_jax.inference.bayes_arviz import labels_of
from perler_jax.noise import StudentT
from perler_jax.plotting import plot_parameters
from perler_jax.trust.subsets import landmark_expression

egg = pj.simulate_embryo(seed=1, n_locations=300, n_cells=300, n_genes=100, n_landmarks=30)
fit = pj.fit_perler(
    egg.cells,
    egg.reference,
    settings=pj.PerlerSettings(n_metagenes=12),
    weights=(0.08, 0.15),  # nothing is tuned: this is about the mapping
    progress=False,
)
x, r = jnp.asarray(fit.cell_metagenes), jnp.asarray(fit.reference_metagenes)

# %% [markdown]
# ## A prior that hardly matters, to begin with
#
# `data_scaled_priors` are proper and weak: worth one cell among 300. MAP-EM finds the mode of the posterior; it
# should be where EM was. If it is not, the data say little, and you will want to know about which metagene.

# %%
priors = data_scaled_priors(x, r)
mode = fit_map_em(x, r, priors)
moved = pd.DataFrame(
    {
        name: np.abs(np.asarray(getattr(mode.params, name)) / fit.parameters[name].to_numpy() - 1)
        for name in ("sensitivity", "noise")
    }
)
print(mode)
print("largest relative change from EM:", moved.max().round(4).to_dict())

# %% [markdown]
# ## Three ways to a standard error
#
# *Laplace* takes the exact curvature of the log posterior at its mode: seconds, even for large data. *SVI* fits
# independent normals to it here (`guide="normal"`), in minibatches where cells are many. *NUTS* draws from the
# posterior itself: slow, and the referee of the other two.

# %%
laplace = fit_laplace(x, r, priors, progress=False)
svi = fit_svi(x, r, priors, guide="normal", n_steps=600, progress=False)
nuts = sample_nuts(x, r, priors, n_warmup=100, n_draws=200, n_chains=2, progress=False)
nuts

# %% [markdown]
# **Look at these three numbers first.** R-hat: do the chains agree? It should be below 1.01, or 1.05 for a short run
# as this. ESS: how many independent draws is it worth? A few hundred are enough for a standard error. Divergences
# should be zero; if not, believe nothing below.


# %%
def errors(found):
    """Standard errors of the three parameters, one row per metagene."""
    columns = {name: np.asarray(getattr(found.standard_errors, name)) for name in fit.parameters}
    return pd.DataFrame(columns, index=fit.parameters.index)


plot_parameters(fit.parameters, errors=errors(nuts), error_name="posterior standard deviation")
plt.show()

# %% [markdown]
# Sensitivity falls with the number of the metagene: the first ones carry what both sides agree on, the last ones
# little. A sensitivity whose bar reaches zero belongs to a metagene that says nothing about place. (Scales differ
# between metagenes because PLSC orders them by strength; compare a bar with its own point, not with its neighbour.)
#
# Now the referee. Each dot is a parameter; on the line the fast method gives the error that NUTS gives.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.9), layout="constrained", sharex=True, sharey=True)
true = errors(nuts)
for ax, (name, found) in zip(axes, {"Laplace": laplace, "SVI, independent": svi}.items(), strict=True):
    for column in true:
        ax.plot(true[column], errors(found)[column], "o", ms=4, label=column)
    ends = (true.min().min() / 1.5, true.max().max() * 1.5)
    ax.plot(ends, ends, color="0.6", lw=1, ls="--", zorder=0)
    ratio = float((errors(found) / true).stack().median())
    ax.set(xscale="log", yscale="log", xlabel="standard error by NUTS", title=f"{name}: {ratio:.2f} of NUTS")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("standard error by the fast method")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# The number in the title is the median ratio. NUTS with a few hundred draws knows a standard error to some 5 %
# itself, so small scatter means nothing. An independent normal cannot be too wide, only too narrow, where
# parameters are correlated; `guide="multivariate_normal"` mends that.
#
# ## In ArviZ
#
# `to_arviz` names the dimensions: metagene, cell, location, gene. From here on all of ArviZ works, before and after its
# 1.0 (whose tables are rounded to what the draws can tell, and whose intervals cut equal tails).

# %%
idata = to_arviz(nuts, x, r, labels=labels_of(fit), loadings=fit.metagenes.cell_loadings)
az.summary(idata, var_names=["noise"], round_to=3)

# %%
figure, axes = plt.subplots(2, 2, figsize=(10, 4), layout="constrained", width_ratios=(1, 2))
for (left, right), metagene in zip(axes, ("metagene 1", "metagene 12"), strict=True):
    for chain in idata.posterior["sensitivity"].sel(metagene=metagene):
        left.hist(chain, 20, density=True, histtype="step")
        right.plot(chain, lw=0.6)
    left.set(ylabel=metagene, yticks=[])
axes[1, 0].set_xlabel("sensitivity")
axes[1, 1].set_xlabel("draw")
plt.show()

# %% [markdown]
# Right: the chains should look like the same grass. Left: their densities should lie on each other. A slow wave on
# the right means few effective draws, whatever their number.
#
# ## Which model says most about a cell that it has not seen?
#
# `az.loo` estimates the log probability of each cell as if it had been left out (PSIS-LOO), from draws alone.

# %%
az.loo(idata)

# %% [markdown]
# **Pareto k**, below the table, marks cells for which this shortcut fails ("bad"). A few are cells that the model finds
# very odd: look at them. Many mean that the estimate is not to be used. `p_loo` is how many parameters the data had to
# settle; 36 were there.
#
# To compare numbers of metagenes, or families of noise, all candidates must be judged in one space:
# `compare_metagenes` completes each to a density of all landmarks and does so with Laplace draws.

# %%
y, h = landmark_expression(fit)
choices = [("plsc", 3), ("plsc", 12), ("plsc", 12, StudentT(5.0))]
table = compare_metagenes(y, h, choices, n_draws=100, progress=False)
table.round(1)

# %% [markdown]
# `elpd`: higher is better, in nats over all cells. Look at `difference` beside its own error: less than about two
# errors is a draw. Heavy tails are worse here: the simulated cells have none. Three metagenes are far too few to describe a
# cell.
#
# **Where all this misleads.** (1) The errors say how well *three numbers per metagene* are known if the model is
# right. With hundreds of cells they always look small. They are not the error of a predicted gene: that is notebook
# 06. (2) LOO here leaves out *cells*. The model that describes cells best is not always the one that predicts
# unmeasured genes best; only held-out genes tell (notebook 03).
#
# ## Simulated cells from the fitted model
#
# A last check by eye, the posterior predictive: does the model make cells like ours? Draws without NUTS do as well.

# %%
draws = laplace.draw(jax.random.key(0), 50)
made = to_arviz(draws, x, r, n_predicted=20, seed=0).posterior_predictive["cells"].to_numpy()
made = made.reshape(-1, x.shape[1])
figure, axes = plt.subplots(1, 3, figsize=(11, 2.6), layout="constrained")
for ax, metagene in zip(axes, (0, 1, 11), strict=True):
    edges = np.histogram_bin_edges(x[:, metagene], 20)
    ax.hist(made[:, metagene], edges, density=True, color="0.8", label="simulated")
    ax.hist(np.asarray(x[:, metagene]), edges, density=True, histtype="step", color="#35608D", label="cells")
    ax.set(xlabel=f"metagene {metagene + 1}", yticks=[])
    ax.spines[["top", "right", "left"]].set_visible(False)
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Where the outline leaves the grey, the model is wrong in a way that no standard error above knows of: long tails
# ask for `noise="student_t"`, a second hump for cells from elsewhere (`foreign_cells=True`). Priors of your own are
# the subject of notebook 05.
