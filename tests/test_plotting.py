"""Pictures on tissue: what is drawn where, and that nothing else is touched."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from perler_jax import plotting
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.axes import EMBRYO
from perler_jax.plotting.views import flatten, unroll
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
    assert plotting.plot_pattern(coordinates[:, 2].copy(), coordinates, view="lateral", ax=ax) is ax
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


@pytest.mark.parametrize("view", ["front", "back", "left", "right", "top", "bottom"])
def test_a_block_of_points_shows_all_of_them(ax, view):
    block = np.random.default_rng(0).normal(size=(300, 3))
    axis, sign = {"f": (1, -1), "b": (1, 1), "l": (0, -1), "r": (0, 1), "t": (2, 1), "o": (2, -1)}[
        "o" if view == "bottom" else view[0]
    ]
    options = {} if view == "front" else {"view": view}
    plotting.plot_pattern(block[:, axis].copy(), block, ax=ax, **options)
    offsets, values = dots(ax)
    assert len(offsets) == 300
    assert np.all(np.diff(sign * values) >= 0)  # the nearest are drawn last
    # The page is not a mirror image: right, up and toward the viewer are a right-handed frame.
    flat, rows = flatten(block, view)
    toward = sign * block[rows][:, axis]
    frame = np.linalg.lstsq(block[rows], np.column_stack([flat, toward]), rcond=None)[0]
    assert np.linalg.det(frame) == pytest.approx(1.0)


def test_several_sides_are_named_as_the_axes_are(coordinates):
    values = coordinates[:, 0].copy()

    def titles(**options):
        drawn = plotting.plot_views(values, coordinates, ax=Figure().subplots(), **options)
        return [panel.get_title() for panel in drawn.child_axes]

    assert titles() == ["left", "front", "top", "bottom", "right", "back"]
    assert titles(axes=EMBRYO) == ["anterior", "lateral", "dorsal", "ventral", "posterior"]
    assert titles(axes=EMBRYO.plain()) == titles(axes=EMBRYO)


def test_any_axis_can_be_mirrored(ax, coordinates):
    plotting.plot_pattern(coordinates[:, 0].copy(), coordinates, mirror="z", ax=ax)
    offsets, values = dots(ax)
    assert len(offsets) == 600
    np.testing.assert_array_equal(offsets[:, 0], values)
    np.testing.assert_allclose(np.sort(offsets[:, 1]), np.sort(-offsets[:, 1]))


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
    # What faces away counts as well: all views of one pattern have the same colours.
    height = coordinates[:, 2].copy()
    other = plotting.plot_pattern(height, coordinates, view="dorsal", ax=Figure().subplots())
    assert other.collections[0].get_clim() == (height.min(), height.max())


def test_what_was_not_measured_is_grey(ax, coordinates):
    values = coordinates[:, 2].copy()
    values[:5] = np.nan
    plotting.plot_pattern(values, coordinates, ax=ax)
    (collection,) = [c for c in ax.collections if isinstance(c, EllipseCollection)]
    collection.update_scalarmappable()
    grey = np.all(collection.get_facecolor()[:, :3] == 0.85, axis=1)
    assert grey.sum() == 5
    assert collection.get_clim() == (np.nanmin(values), np.nanmax(values))


def test_other_numbers_of_coordinates_are_refused(ax):
    with pytest.raises(PerlerInputError, match="4 columns"):
        plotting.plot_pattern(np.ones(5), np.ones((5, 4)), ax=ax)
    with pytest.raises(PerlerInputError, match="2 columns"):
        plotting.plot_unrolled(np.ones(5), np.ones((5, 2)), ax=ax)


def test_grid_puts_the_truth_beside_the_prediction(ax, coordinates, tmp_path):
    predicted = np.stack([coordinates[:, 0], coordinates[:, 1], coordinates[:, 2]], axis=1)
    assert plotting.plot_pattern_grid(predicted, coordinates, ["a", "b", "c"], truth=-predicted, ax=ax) is ax
    panels = ax.child_axes
    assert panels[2].get_title() == "b, reconstructed"
    assert panels[3].get_title() == "b, truth"
    np.testing.assert_array_equal(dots(panels[2])[1], -dots(panels[3])[1])
    ax.figure.savefig(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 10_000
    alone = plotting.plot_pattern_grid(
        predicted, coordinates, ["a", "b", "c"], columns=3, ax=Figure().subplots()
    )
    assert [panel.get_title() for panel in alone.child_axes] == [
        "a, reconstructed",
        "b, reconstructed",
        "c, reconstructed",
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_comparison_draws_a_difference_around_zero_and_an_error_from_zero(ax, coordinates, sign):
    error = np.linspace(-1.0, 3.0, 300) if sign < 0 else np.linspace(0.5, 3.0, 300)
    measured, predicted = coordinates[:, 0].copy(), coordinates[:, 2].copy()
    names = ("in situ", "prediction", "standard error")
    plotting.plot_comparison(measured, predicted, error, coordinates, names=names, title="en", ax=ax)
    left, middle, right = ax.child_axes
    assert [panel.get_title() for panel in (left, middle, right)] == list(names)
    assert ax.get_title() == "en"
    np.testing.assert_array_equal(np.sort(dots(left)[1]), np.sort(measured))
    np.testing.assert_array_equal(np.sort(dots(middle)[1]), np.sort(predicted))
    assert right.collections[0].get_clim() == ((-3.0, 3.0) if sign < 0 else (0.0, 3.0))


def test_bins_tell_hits_from_misses(ax):
    points = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
    on, predicted = np.arange(10) < 4, (np.arange(10) >= 1) & (np.arange(10) < 7)
    plotting.plot_bins(on, points, predicted=predicted, ax=ax)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["on (3)", "missed (1)", "too much (3)", "off (3)"]
    (collection,) = [c for c in ax.collections if isinstance(c, EllipseCollection)]
    colours = [tuple(colour) for colour in collection.get_facecolor()]
    assert [colours.index(colour) for colour in colours] == [0, 1, 1, 1, 4, 4, 4, 7, 7, 7]
    alone = plotting.plot_bins(on, points, ax=Figure().subplots())
    assert [text.get_text() for text in alone.get_legend().get_texts()] == ["on (4)", "off (6)"]


def test_views_share_scale_and_colours(ax, coordinates):
    values = coordinates[:, 0].copy()
    views = ("lateral", "dorsal", "posterior")
    plotting.plot_views(values, coordinates, views=views, mirror=True, unit="log2", ax=ax)
    ax.figure.set_size_inches(9, 4)
    ax.figure.draw_without_rendering()
    panels = ax.child_axes[:3]
    assert [panel.get_title() for panel in panels] == list(views)
    per_micrometre = [np.ptp(panel.transData.transform([[0, 0], [100, 0]])[:, 0]) for panel in panels]
    np.testing.assert_allclose(per_micrometre, per_micrometre[0], rtol=1e-6)
    assert {panel.collections[0].get_clim() for panel in panels} == {(values.min(), values.max())}
    assert [child.get_ylabel() for child in ax.child_axes[3:]] == ["log2"]


def test_unknown_view_is_refused(coordinates):
    with pytest.raises(PerlerInputError, match="found 'sideways'"):
        flatten(coordinates, "sideways")


def test_unrolled_skin_of_a_cylinder_is_its_rectangle():
    """x stays; around the body a point lies at its angle from the ventral midline times the radius."""
    x, angle = (each.ravel() for each in np.meshgrid(np.arange(0, 400, 10.0), np.linspace(0, np.pi, 41)))
    cylinder = np.stack([x, 50 * np.sin(angle), -50 * np.cos(angle)], axis=1)
    flat, order, reach = unroll(cylinder)
    np.testing.assert_allclose(flat, np.stack([x, 50 * angle], axis=1), atol=1e-9)
    np.testing.assert_array_equal(order, np.arange(len(x)))
    assert reach == pytest.approx(50 * np.pi)
    both = unroll(cylinder, mirror=True)
    np.testing.assert_allclose(both.flat[len(x) :, 1], -both.flat[: len(x), 1], atol=1e-9)
    np.testing.assert_array_equal(both.order, np.tile(np.arange(len(x)), 2))


def test_unrolled_half_stays_on_its_side_of_the_cut(ax, coordinates):
    beyond = coordinates.copy()
    near = np.argsort(beyond[:, 1])[:6]
    beyond[near, 1] = -0.5  # cells of the midline, a little beyond it
    plotting.plot_unrolled(beyond[:, 0].copy(), beyond, ax=ax, unit="log2")
    offsets, values = dots(ax)
    assert offsets[:, 1].min() >= 0
    np.testing.assert_array_equal(offsets[:, 0], values)
    assert labels(ax) == ["bottom", "side", "top"], "a map that does not say what its sides are is no embryo"
    pattern = beyond[:, 0].copy()
    whole = plotting.plot_unrolled(pattern, beyond, axes=EMBRYO, mirror=True, ax=Figure().subplots())
    assert len(dots(whole)[0]) == 600
    assert labels(whole) == ["dorsal", "left", "ventral", "right", "dorsal"]
    named = plotting.plot_unrolled(pattern, beyond, axes={"z": "basal:apical"}, ax=Figure().subplots())
    assert labels(named) == ["basal", "side", "apical"]


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_posterior_rings_the_most_probable_and_outlines_the_region(ax, coordinates):
    probability = np.exp(-np.sum((coordinates - coordinates[40]) ** 2, axis=1) / 2000)
    probability /= probability.sum()
    region = probability > np.quantile(probability, 0.9)
    plotting.plot_posterior(probability, coordinates, region=region, truth=7, ax=ax)
    discs = [c for c in ax.collections if isinstance(c, EllipseCollection)]
    assert [len(c.get_offsets()) for c in discs] == [300, 300, region.sum(), region.sum()]
    assert discs[1].get_clim() == discs[3].get_clim() == (0.0, probability.max())
    marks = {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections if c not in discs}
    np.testing.assert_array_equal(marks["most probable"], coordinates[[40]][:, [0, 2]])
    np.testing.assert_array_equal(marks["true origin"], coordinates[[7]][:, [0, 2]])


def test_style_is_left_alone(ax, coordinates):
    before = dict(mpl.rcParams)
    plotting.plot_pattern_grid(coordinates, coordinates, ["a", "b", "c"], ax=ax)
    assert dict(mpl.rcParams) == before


def test_import_loads_no_pyplot():
    code = "import sys, perler_jax.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_axes_a_figure_is_made(coordinates, monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "subplots", lambda **options: (None, Figure(**options).subplots()))
    ax = plotting.plot_pattern(coordinates[:, 0].copy(), coordinates)
    width, height = ax.figure.get_size_inches()
    across, up = np.ptp(coordinates[:, 0]), np.ptp(coordinates[:, 2])
    assert height == pytest.approx((width - 1.2) * up / across + 0.7)  # as high as the tissue needs
