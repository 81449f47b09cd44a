"""Pictures: what is drawn where, and that nothing else is touched."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from perler_jax import plotting
from perler_jax.errors import PerlerInputError
from perler_jax.scores.stripes import StripeCount
from perler_jax.simulation.virtual_embryo import half_ellipsoid


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def coordinates():
    return half_ellipsoid(300)


def dots(ax):
    (collection,) = [c for c in ax.collections if isinstance(c, EllipseCollection)]
    return np.asarray(collection.get_offsets()), np.asarray(collection.get_array())


def test_lateral_view_has_anterior_left_and_dorsal_up(ax, coordinates):
    assert plotting.plot_pattern(coordinates[:, 2].copy(), coordinates, ax=ax) is ax
    offsets, values = dots(ax)
    assert len(offsets) == 300  # all of the right half faces the viewer
    np.testing.assert_array_equal(offsets[:, 1], values)
    assert offsets[:, 0].min() < -240
    assert ax.get_xlim()[0] < ax.get_xlim()[1]
    assert ax.get_ylim()[0] < ax.get_ylim()[1]


@pytest.mark.parametrize(
    ("view", "axis", "sign"), [("dorsal", 2, 1), ("ventral", 2, -1), ("posterior", 0, 1)]
)
def test_the_far_side_is_hidden_and_the_near_drawn_last(ax, coordinates, view, axis, sign):
    depth = sign * coordinates[:, axis]
    plotting.plot_pattern(depth, coordinates, view=view, ax=ax)
    values = dots(ax)[1]
    assert len(values) == (depth >= (depth.min() + depth.max()) / 2).sum() < 300
    assert np.all(np.diff(values) >= 0)


def test_mirror_adds_the_other_half(ax, coordinates):
    plotting.plot_pattern(coordinates[:, 0].copy(), coordinates, view="dorsal", mirror=True, ax=ax)
    offsets, values = dots(ax)
    assert offsets[:, 1].min() == pytest.approx(-offsets[:, 1].max())
    np.testing.assert_array_equal(offsets[:, 0], values)
    other = coordinates * [1.0, -1.0, 1.0] - [0.0, 500.0, 0.0]
    second = Figure().subplots()
    plotting.plot_pattern(coordinates[:, 0].copy(), coordinates, view="dorsal", mirror=other, ax=second)
    assert dots(second)[0][:, 1].min() < -500


def test_flat_tissue_lies_as_given(ax):
    points = np.random.default_rng(0).random((50, 2)) * 100
    plotting.plot_pattern(points[:, 0].copy(), points, ax=ax, title="zone", unit="counts", scale_bar=20)
    np.testing.assert_array_equal(dots(ax)[0], points)
    assert ax.get_title() == "zone"
    assert [child.get_ylabel() for child in ax.child_axes] == ["counts"]
    assert any("20 µm" in text.get_text() for text in ax.texts)
    assert np.ptp(ax.lines[0].get_xdata()) == pytest.approx(20)


def test_limits_are_those_of_the_values_or_given(ax, coordinates):
    plotting.plot_pattern(coordinates[:, 0].copy(), coordinates, view="dorsal", ax=ax, limits=(0.0, 7.0))
    assert ax.collections[0].get_clim() == (0.0, 7.0)


def test_other_numbers_of_coordinates_are_refused(ax):
    with pytest.raises(PerlerInputError, match="4 columns"):
        plotting.plot_pattern(np.ones(5), np.ones((5, 4)), ax=ax)


def test_grid_puts_the_truth_beside_the_prediction(coordinates, tmp_path):
    predicted = np.stack([coordinates[:, 0], coordinates[:, 1], coordinates[:, 2]], axis=1)
    figure = plotting.plot_pattern_grid(predicted, coordinates, ["a", "b", "c"], truth=-predicted)
    assert figure.axes[2].get_title() == "b, reconstructed"
    assert figure.axes[3].get_title() == "b, truth"
    np.testing.assert_array_equal(dots(figure.axes[2])[1], -dots(figure.axes[3])[1])
    figure.savefig(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 10_000
    alone = plotting.plot_pattern_grid(predicted, coordinates, ["a", "b", "c"], columns=3)
    assert [ax.get_title() for ax in alone.axes] == [
        "a, reconstructed",
        "b, reconstructed",
        "c, reconstructed",
    ]


def test_em_trace_leaves_out_the_padding(ax):
    plotting.plot_em_trace(np.array([-5.0, -4.0, -3.5, np.nan, np.nan]), ax=ax)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[1, -5], [2, -4], [3, -3.5]])
    assert "nats" in ax.get_ylabel()


def test_objective_has_the_path_end_at_its_place(ax):
    alpha, beta = np.array([0.0, 0.1, 0.2]), np.array([0.01, 0.1, 1.0, 10.0])
    surface = np.arange(12.0).reshape(3, 4)
    surface[0, 0] = np.nan
    plotting.plot_objective(alpha, beta, surface, path=np.array([[0.0, 1.0], [0.2, 10.0]]), ax=ax)
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), [[10.0, 0.2]])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")


def test_profile_marks_its_stripes(ax):
    positions = np.linspace(0, 100, 101)
    stripes = StripeCount(2, np.array([20.0, 60.0]), np.array([1.0, 1.0]))
    plotting.plot_profile(positions, positions / 100, stripes=stripes, ax=ax, title="en", unit="log2")
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[20, 0.2], [60, 0.6]])
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    assert (ax.get_title(), ax.get_ylabel()) == ("en", "log2")


def test_style_is_left_alone(coordinates):
    before = dict(mpl.rcParams)
    plotting.plot_pattern_grid(coordinates, coordinates, ["a", "b", "c"])
    assert dict(mpl.rcParams) == before


def test_import_loads_no_pyplot():
    code = "import sys, perler_jax.plotting.patterns; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
