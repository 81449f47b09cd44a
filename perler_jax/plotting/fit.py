"""Pictures of a fit: how EM climbed, where tuning went, the parameters, what metagenes are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.contour import ContourSet
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from matplotlib.tri import Triangulation, UniformTriRefiner

from perler_jax._typing import Float
from perler_jax.errors import PerlerInputError
from perler_jax.plotting.canvas import EXPRESSION, new_axes, panels

__all__ = ["plot_em_trace", "plot_loadings", "plot_objective", "plot_parameters"]

# Contours of the tuning surface: so much below its maximum, in nats. Fewer than two is hardly worse.
_DROPS = (2.0, 1.0, 0.5, 0.1)


def plot_em_trace(log_likelihood: Float[np.ndarray, " steps"], *, ax: Axes | None = None) -> Axes:
    """Draw the log-likelihood (nats) at the start (0) and after each iteration, as ``EMResult.history``.

    NaN, as in the padding of ``EMResult.log_likelihoods``, is left out.

    Args:
        log_likelihood: nats, (steps,).
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    ax = new_axes(ax, (4.5, 3.0))
    seen = np.isfinite(log_likelihood)
    ax.plot(np.arange(len(log_likelihood))[seen], log_likelihood[seen], marker="o", ms=4, lw=1.2)
    ax.set(xlabel="EM iteration", ylabel="log-likelihood (nats)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.ticklabel_format(axis="y", useOffset=False)
    return ax


def plot_objective(
    alpha: Float[np.ndarray, " alphas"],
    beta: Float[np.ndarray, " betas"],
    objective: Float[np.ndarray, "alphas betas"] | Float[np.ndarray, " evaluated"],
    *,
    path: Float[np.ndarray, "steps 2"] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the tuning objective J over alpha and beta, with the optimiser's path and its end.

    White lines are 0.1, 0.5, 1 and 2 nats below the maximum: what lies inside is hardly worse. Axes are
    logarithmic where all their values are positive, and linear below the least positive one where zero is
    among widely spread ones. Undefined corners stay empty.

    Args:
        alpha: values of a grid, or of the points that were evaluated (``Tuning.points[:, 0]``).
        beta: likewise.
        objective: J on the grid, or at the points (``Tuning.objectives``), which are then marked.
        path: alpha and beta of each step (``Tuning.path[:, :2]``).
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.

    Raises:
        PerlerInputError: on fewer than three points, between which there is no surface.
    """
    found = np.isfinite(objective).sum()
    if objective.ndim == 1 and found < 3:
        raise PerlerInputError(
            f"expected at least 3 points with an objective, found {found}: the gradient search evaluates few "
            "points on all of the data; score a grid with HeldOutScorer"
        )
    ax = new_axes(ax, (4.8, 3.6))
    _scale(ax, "y", alpha)
    _scale(ax, "x", beta)
    best = float(np.nanmax(objective))
    levels = np.linspace(max(float(np.nanmin(objective)), best - 12), best, 25)
    drops = [best - drop for drop in _DROPS if best - drop > levels[0]]
    options: dict[str, Any] = {"levels": levels, "cmap": EXPRESSION, "extend": "both"}
    if objective.ndim == 2:
        defined = np.ma.masked_invalid(objective)
        surface: ContourSet = ax.contourf(beta, alpha, defined, **options)
        ax.contour(beta, alpha, defined, levels=drops, colors="white", linewidths=0.6)
    else:
        known = np.isfinite(objective)
        mesh, values = _between(beta[known], alpha[known], objective[known])
        surface = ax.tricontourf(mesh, values, **options)
        ax.tricontour(mesh, values, levels=drops, colors="white", linewidths=0.6)
        ax.plot(beta[known], alpha[known], ".", color="black", alpha=0.5, ms=3)
    ticks = np.asarray(MaxNLocator(5).tick_values(levels[0], best))
    ticks = ticks[(ticks >= levels[0]) & (ticks <= best)]
    ax.figure.colorbar(surface, ax=ax, label="objective J (nats)", ticks=ticks)
    if path is not None:
        ax.plot(path[:, 1], path[:, 0], color="white", marker=".", lw=1.2)
        ax.plot(path[-1:, 1], path[-1:, 0], color="#D1495B", marker="*", ms=13, mec="white", ls="none")
    ax.set(xlabel=r"$\beta$ (weight of $D$)", ylabel=r"$\alpha$ (weight of $D^2$)")
    return ax


def plot_parameters(
    parameters: pd.DataFrame,
    *,
    errors: pd.DataFrame | None = None,
    error_name: str = "standard error",
    ax: Axes | None = None,
) -> Axes:
    """Draw sensitivity, background and noise of every metagene, one below the other, with error bars.

    Args:
        parameters: (metagenes, 3) as ``PerlerFit.parameters``.
        errors: half the length of each bar, same rows and columns; None draws none.
        error_name: what the bars are.
        ax: axes whose place is divided into panels; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    ax = new_axes(ax, (7.0, 5.0))
    numbers = np.arange(1, len(parameters) + 1)
    column = [row[0] for row in panels(ax, parameters.shape[1], 1, gap=(0.0, 0.07))]
    for panel, name in zip(column, parameters.columns, strict=True):
        values = parameters[name].to_numpy(float)
        bars = None if errors is None else errors.loc[parameters.index, name].to_numpy(float)
        panel.errorbar(numbers, values, yerr=bars, fmt="o", ms=3, lw=1, capsize=2)
        if values.min() < 0 < values.max():
            panel.axhline(0.0, color="0.7", lw=0.8, zorder=0)
        if name == "noise":
            panel.set_yscale("log")
            _write_in_full(panel.yaxis, few=bool(values.max() < 30 * values.min()))
        panel.set(ylabel=name, xlim=(0, len(numbers) + 1))
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if panel is not column[-1]:
            panel.tick_params(labelbottom=False)
    column[-1].set_xlabel("metagene" if errors is None else f"metagene (bars: ± one {error_name})")
    return ax


def plot_loadings(
    loadings: pd.DataFrame, *, n_metagenes: int = 8, n_landmarks: int = 4, ax: Axes | None = None
) -> Axes:
    """Draw which landmarks make up the first metagenes: red with the metagene, blue against it.

    Args:
        loadings: (landmarks, metagenes) as ``PerlerFit.loadings``.
        n_metagenes: how many, from the first.
        n_landmarks: of each metagene, those of largest weight that no earlier one has shown.
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    table = loadings.iloc[:, :n_metagenes]
    chosen: list = []
    for name in table:
        ordered = table[name].abs().drop(chosen).sort_values(ascending=False)
        chosen += list(ordered.index[:n_landmarks])
    table = table.loc[chosen]
    ax = new_axes(ax, (1.8 + 0.36 * table.shape[1], 1.1 + 0.17 * len(table)))
    largest = float(table.abs().to_numpy().max())
    mesh = ax.pcolormesh(table.to_numpy(float), cmap="RdBu_r", vmin=-largest, vmax=largest)
    ax.invert_yaxis()
    ax.set_yticks(np.arange(len(table)) + 0.5, list(map(str, table.index)), fontsize=8, style="italic")
    ax.set_xticks(np.arange(table.shape[1]) + 0.5, [str(i + 1) for i in range(table.shape[1])])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("metagene")
    ax.figure.colorbar(mesh, ax=ax, label="loading", fraction=0.08, pad=0.04)
    return ax


def _scale(ax: Axes, name: str, values: np.ndarray) -> None:
    """Logarithmic, or so above the least positive value, where the values spread so; numbers in full."""
    positive = values[values > 0]
    if len(positive) == len(values):
        getattr(ax, f"set_{name}scale")("log")
    elif len(positive) and positive.max() > 30 * positive.min():
        getattr(ax, f"set_{name}scale")("symlog", linthresh=float(positive.min()))
    else:
        return
    _write_in_full(getattr(ax, f"{name}axis"), few=bool(positive.max() < 30 * positive.min()))


def _write_in_full(axis: Axis, *, few: bool) -> None:
    """Numbers of a logarithmic axis as 0.1 and 20; over few decades 2 and 5 are named as well."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if few else ""))


def _between(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> tuple[Triangulation, np.ndarray]:
    """A fine mesh through scattered points, smooth between them, on the scale of the axes."""
    units = [float(each[each > 0].min(initial=1.0)) for each in (x, y)]
    coarse = Triangulation(np.arcsinh(x / units[0]), np.arcsinh(y / units[1]))
    fine, smooth = UniformTriRefiner(coarse).refine_field(values, subdiv=3)
    mesh = Triangulation(np.sinh(fine.x) * units[0], np.sinh(fine.y) * units[1], fine.triangles)
    return mesh, smooth
