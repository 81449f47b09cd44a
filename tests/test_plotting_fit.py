"""Pictures of fits, of trust, of zones and of profiles: the numbers given are the numbers drawn."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from perler_jax import plotting
from perler_jax.errors import PerlerInputError
from perler_jax.scores.stripes import StripeCount


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def test_em_trace_leaves_out_the_padding(ax):
    assert plotting.plot_em_trace(np.array([-5.0, -4.0, -3.5, np.nan, np.nan]), ax=ax) is ax
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, -5], [1, -4], [2, -3.5]])
    assert "nats" in ax.get_ylabel()


def test_objective_has_the_path_end_at_its_place(ax):
    alpha, beta = np.array([0.0, 0.1, 0.2]), np.array([0.01, 0.1, 1.0, 10.0])
    surface = np.arange(12.0).reshape(3, 4)
    surface[0, 0] = np.nan
    plotting.plot_objective(alpha, beta, surface, path=np.array([[0.0, 1.0], [0.2, 10.0]]), ax=ax)
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), [[10.0, 0.2]])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    spread = plotting.plot_objective(np.array([0.0, 0.01, 1.0]), beta, surface, ax=Figure().subplots())
    assert spread.get_yscale() == "symlog"


def test_too_few_points_make_no_surface(ax):
    one = np.array([0.1])
    with pytest.raises(PerlerInputError, match=r"found 1: .* HeldOutScorer"):
        plotting.plot_objective(one, one, one, ax=ax)


def test_objective_of_scattered_points_is_smooth_between_them(ax):
    """Points of a paraboloid in the logarithms: its contours are circles around its top."""
    steps = np.linspace(-1.0, 1.0, 7)
    alpha, beta = (np.exp(each.ravel()) for each in np.meshgrid(steps, steps, indexing="ij"))
    objective = 5.0 - 2 * (np.log(alpha) ** 2 + np.log(beta) ** 2)
    plotting.plot_objective(alpha, beta, objective, ax=ax)
    lines = [c for c in ax.collections if np.size(c.get_linewidths()) and c.get_facecolor().size == 0][-1]
    drops = 5.0 - lines.levels
    np.testing.assert_allclose(np.sort(drops), [0.1, 0.5, 1.0, 2.0])
    for path, drop in zip(lines.get_paths(), drops, strict=True):
        radii = np.linalg.norm(np.log(path.vertices), axis=1)
        assert abs(np.median(radii) - np.sqrt(drop / 2)) < 0.06
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.stack([beta, alpha], axis=1))


def test_parameters_have_bars_of_the_given_length(ax):
    names = [f"metagene {i}" for i in range(1, 5)]
    values = pd.DataFrame({"sensitivity": [1.0, 2, 3, 4], "background": [-1.0, 0, 1, 2]}, names)
    values["noise"] = [8.0, 4, 2, 1]
    errors = values.abs() / 10
    plotting.plot_parameters(values, errors=errors.sample(frac=1.0, random_state=0), ax=ax)
    for panel, name in zip(ax.child_axes, values, strict=True):
        assert panel.get_ylabel() == name
        (container,) = panel.containers
        np.testing.assert_array_equal(container.lines[0].get_ydata(), values[name])
        ends = np.array(container.lines[2][0].get_segments())[:, :, 1]
        np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * errors[name])
    assert ax.child_axes[2].get_yscale() == "log"
    assert "standard error" in ax.child_axes[2].get_xlabel()


def test_loadings_show_the_largest_of_each_metagene(ax):
    table = pd.DataFrame(np.zeros((6, 3)), list("abcdef"), ["metagene 1", "metagene 2", "metagene 3"])
    table.loc["c", "metagene 1"], table.loc["a", "metagene 1"] = -5.0, 3.0
    table.loc["c", "metagene 2"], table.loc["f", "metagene 2"] = 4.0, 1.0
    plotting.plot_loadings(table, n_metagenes=2, n_landmarks=1, ax=ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "f"]
    mesh = ax.collections[0]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).ravel(), [-5.0, 4.0, 0.0, 1.0])
    assert mesh.get_clim() == (-5.0, 5.0)


def test_zones_lie_in_the_order_given(ax):
    table = pd.DataFrame([[1.0, 2, 3], [6.0, 5, 4]], ["Ada", "Nt5e"], ["base", "middle", "tip"])
    plotting.plot_zones(table, unit="z-score", axis="villus zone", ax=ax)
    np.testing.assert_array_equal(np.asarray(ax.collections[0].get_array()), table)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Ada", "Nt5e"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["base", "middle", "tip"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.figure.axes[1].get_ylabel() == "z-score"
    many = pd.DataFrame(np.zeros((100, 3)))
    assert plotting.plot_zones(many, unit="log2", ax=Figure().subplots()).get_ylabel() == "100 genes"


def test_reliability_names_those_farthest_from_the_diagonal(ax):
    predicted, actual = np.array([0.1, 0.5, 0.6, 0.9]), np.array([0.1, 0.9, 0.55, 0.2])
    lower, upper = predicted - 0.1, predicted + 0.2
    names = ["a", "b", "c", "d"]
    plotting.plot_reliability(
        predicted, actual, lower=lower, upper=upper, genes=names, n_named=2, score="rho", ax=ax
    )
    assert {text.get_text() for text in ax.texts} == {"d", "b"}
    assert ax.get_xlim() == ax.get_ylim()
    segments = np.array(ax.containers[0].lines[2][0].get_segments())
    np.testing.assert_allclose(segments[:, :, 0], np.stack([lower, upper], axis=1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted rho", "actual rho")


def test_calibration_has_one_diagonal_and_a_curve_per_call(ax):
    nominal = np.array([0.5, 0.8, 0.9])
    plotting.plot_calibration(nominal, nominal - 0.1, lower=nominal - 0.2, upper=nominal, label="a", ax=ax)
    plotting.plot_calibration(nominal, nominal + 0.05, label="b", ax=ax)
    diagonal, first, second = (line.get_xydata() for line in ax.lines)
    np.testing.assert_array_equal(diagonal, [[0, 0], [1, 1]])
    np.testing.assert_array_equal(first[:, 1], nominal - 0.1)
    np.testing.assert_array_equal(second[:, 1], nominal + 0.05)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert len(ax.collections) == 1  # the band of the first


def test_resolution_has_a_curve_per_call(ax):
    radii = np.linspace(0.0, 50.0, 6)
    plotting.plot_resolution(radii, radii / 100, label="5 landmarks", ax=ax)
    plotting.plot_resolution(
        radii, radii / 50, lower=radii / 60, upper=radii / 50, label="84 landmarks", ax=ax
    )
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), np.stack([radii, radii / 50], axis=1))
    assert "µm" in ax.get_xlabel()
    assert ax.get_ylim() == (0, 1)


def test_profile_marks_its_stripes(ax):
    positions = np.linspace(0, 100, 101)
    stripes = StripeCount(2, np.array([20.0, 60.0]), np.array([1.0, 1.0]))
    plotting.plot_profile(
        positions,
        positions / 100,
        reference=1 - positions / 100,
        stripes=stripes,
        ax=ax,
        title="en",
        unit="log2",
    )
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[20, 0.2], [60, 0.6]])
    np.testing.assert_allclose(ax.lines[2].get_ydata(), 1 - positions / 100)
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    assert (ax.get_title(loc="left"), ax.get_ylabel()) == ("en", "log2")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["reconstructed", "reference"]
