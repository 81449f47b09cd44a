"""The explorer as a person uses it, in a headless browser: what is seen is what the result holds."""

import io

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from perler_jax.app.explore import write_explorer
from perler_jax.app.explorer.top_cells import find_top_cells
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo
from tests.browser import Browser, browser_or_skip

pytest.importorskip("plotly", reason="no plotly (it is in the test group of pyproject.toml)")


@pytest.fixture(scope="module")
def fit():
    embryo = simulate_embryo(seed=4, n_cells=120, n_locations=150, n_genes=60, n_landmarks=12)
    settings = PerlerSettings(n_metagenes=9)
    return fit_perler(embryo.cells, embryo.reference, settings=settings, weights=(0.1, 1.0), progress=False)


@pytest.fixture(scope="module")
def result(fit):
    """With everything that a page can show."""
    table = fit.reconstruct()
    rng = np.random.default_rng(0)
    error = rng.gamma(3.0, 0.1, table.shape).astype(np.float32)
    half = (error * rng.uniform(1, 2, table.n_vars)).astype(np.float32)
    table.layers.update({"standard_error": error, "lower": table.X - half, "upper": table.X + half})
    table.var["flag"] = np.where(np.arange(60) % 3 == 0, "poor", "good")
    table.var["reason"] = np.where(np.arange(60) % 3 == 0, "seen in few cells", "")
    table.var["predicted"] = rng.uniform(0, 1, 60)
    table.var["predicted_lower"] = table.var["predicted"] - 0.25
    table.var["predicted_upper"] = table.var["predicted"] + 0.25
    table.var["spatial_rank"] = pd.array([*range(60, 1, -1), None], "Int64")
    table.obs["effective_cells"] = rng.uniform(1, 50, 150)
    table.obs["segment"] = np.where(table.obsm["spatial"][:, 0] < 0, "head", "tail")
    return table


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser_or_skip()
    browser = Browser(tmp_path_factory.mktemp("profile"), (960, 640))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def opened_page(browser, result, fit, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_explorer(result, path, fit=fit, title="Embryo")
    return opened(browser, path)


@pytest.fixture
def page(opened_page):
    """The page of the embryo as it is at first; in the end nothing may have gone wrong, no one been asked."""
    opened_page.run("""(async () => {
        const { tissue, search, update } = explorer;
        document.getElementById("order").value = "name";
        search.sort();
        await tissue.view("lateral");
        await tissue.mirror(true);
        search.only = null;
        await update({ gene: 0, quantity: 0, column: null, place: null, beside: null });
    })()""")
    yield opened_page
    finished(opened_page)


def opened(browser, path):
    browser.open(path)
    browser.wait("window.explorer?.ready && explorer.shown > 0")
    return browser


def finished(browser):
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def text(browser, selector):
    return browser.run(f"document.querySelector({selector!r}).innerText")


def act(browser, action):
    """Do something that changes what is shown, and wait until it has."""
    before = browser.run("explorer.shown")
    action()
    browser.wait(f"explorer.shown > {before}")


def choose(browser, name):
    def typed():
        browser.press("/")
        browser.type(name)
        browser.press("Enter")

    act(browser, typed)


def place_of(browser, location):
    """Where a location is drawn, in pixels of the page; by the page's own projection."""
    return browser.run(f"""(() => {{
        const t = explorer.tissue, box = t.element.getBoundingClientRect();
        const [x, y] = t.project(t.points([{location}]));
        return [box.left + x[0], box.top + y[0]];
    }})()""")


def front(browser):
    """The location that is nearest to the viewer: nothing covers it."""
    return browser.run("""(() => {
        const t = explorer.tissue, near = t.project(t.points())[2];
        return near.indexOf(Math.max(...near)) % t.n;
    })()""")


def colour_at(browser, place):
    """(3,) colour that is seen there, away from whatever the pointer shows."""
    browser.move(5, 5)
    browser.run("new Promise((done) => setTimeout(done, 300))")
    picture = imread(io.BytesIO(browser.picture()))
    return picture[round(place[1]), round(place[0]), :3]


def test_a_typed_gene_is_shown_in_its_own_colours(page, result):
    place, location = place_of(page, front(page)), front(page)
    seen = []
    for name in (str(result.var_names[7]), str(result.var_names[31])):
        choose(page, name)
        assert text(page, "#gene") == name
        values = np.asarray(result[:, name].X).ravel()
        shown = np.array(page.run("Array.from(explorer.values)"))
        assert np.corrcoef(shown, values)[0, 1] > 0.98
        np.testing.assert_allclose(shown, values, atol=0.15 * np.ptp(values))
        share = (shown[location] - shown.min()) / np.ptp(shown)
        expected = colormaps["viridis"](share)[:3]
        found = colour_at(page, place)
        np.testing.assert_allclose(found, expected, atol=0.06)
        seen.append(found)
    assert np.abs(seen[0] - seen[1]).max() > 0.1


def test_suggestions_come_while_typing(page, result):
    page.press("/")
    names = list(result.var_names)
    begin = names[20][:3]
    page.type(begin)
    shown = page.run("[...document.querySelectorAll('#matches li[role=option] div')].map((e) => e.innerText)")
    inside = [name for name in names if begin.lower() in name.lower()]
    assert sorted(shown) == sorted(inside)
    first = [name.lower().startswith(begin.lower()) for name in shown]
    assert first == sorted(first, reverse=True)
    page.press("ArrowDown")
    act(page, lambda: page.press("Enter"))
    assert text(page, "#gene") == shown[min(1, len(shown) - 1)]
    page.press("/")
    page.type("nosuchgene")
    assert "no gene has" in text(page, "#matches")
    page.press("Escape")
    page.run("(document.getElementById('order').value = 'spatial rank', explorer.search.sort())")
    order = page.run("explorer.search.sorted")
    assert order[:3] == [58, 57, 56]
    assert order[-1] == 59  # without a rank


def test_uncertainty_and_reliability_are_shown(page, result):
    name = str(result.var_names[9])
    choose(page, name)
    labels = page.run("[...document.querySelectorAll('#quantities button')].map((e) => e.innerText)")
    assert labels == ["prediction", "uncertainty", "± interval", "lower", "upper"]
    column = {
        "uncertainty": result.layers["standard_error"][:, 9],
        "± interval": result.layers["upper"][:, 9] - result.X[:, 9],
        "lower": result.layers["lower"][:, 9],
        "upper": result.layers["upper"][:, 9],
    }
    for label in labels[1:]:
        act(page, lambda: page.press("q"))
        shown = np.array(page.run("Array.from(explorer.values)"))
        assert np.corrcoef(shown, column[label])[0, 1] > 0.97
        assert text(page, "#quantities [aria-pressed=true]") == label
    badges = page.run("[...document.querySelectorAll('#badges span')].map((e) => [e.innerText, e.className])")
    assert ["poor", "no"] in badges
    assert (["landmark", ""] in badges) == result.var["is_landmark"].iloc[9]
    facts = text(page, "#facts")
    assert "seen in few cells" in facts
    predicted = result.var["predicted"].iloc[9]
    assert f"{predicted:.2f}" in facts
    assert f"{predicted - 0.25:.2f} to {predicted + 0.25:.2f}" in facts


def test_a_click_tells_genes_and_cells_of_the_location(page, result, fit):
    location = front(page)
    act(page, lambda: page.click(*place_of(page, location)))
    assert page.run("explorer.state.place") == location
    assert result.obs_names[location] in text(page, "#place")
    scores = (result.X - result.X.mean(axis=0)) / result.X.std(axis=0)
    genes = page.run("[...document.querySelectorAll('#top-genes button')].map((e) => e.innerText)")
    exact = pd.Series(scores[location], result.var_names)
    assert exact[genes[0]] > exact.nlargest(2).iloc[1] - 0.3
    assert len(set(genes) & set(exact.nlargest(12).index)) >= 10
    cells = page.run("[...document.querySelectorAll('#top-cells .cell')].map((e) => e.innerText)")
    assert cells == list(fit.cell_names[find_top_cells(fit).cells[location]])
    assert f"{result.obs['effective_cells'].iloc[location]:.2f}" in text(page, "#facts-there")
    act(page, lambda: page.run("document.querySelector('#top-genes button').click()"))
    assert text(page, "#gene") == genes[0]
    act(page, lambda: page.press("Escape"))
    assert page.run("explorer.state.place") is None


def test_dragging_and_keys_rotate_and_choose_nothing(page):
    camera = "JSON.stringify(explorer.tissue.element._fullLayout.scene._scene.getCamera().eye)"
    left, top = place_of(page, front(page))
    before = page.run(camera)
    page.drag((left, top), (left + 150, top + 60))
    page.wait(f"{camera} !== {before!r}")
    assert page.run("explorer.state.place") is None
    page.press("2")
    page.wait(f"JSON.parse({camera}).z > 0.99")
    dorsal = front(page)
    page.press("3")
    page.wait(f"JSON.parse({camera}).z < -0.99")
    assert front(page) != dorsal
    page.press("ArrowRight")
    page.wait(f"Math.abs(JSON.parse({camera}).z + Math.cos(Math.PI / 12)) < 1e-3")


def test_half_an_embryo_has_its_mirror_image(page):
    count = "explorer.tissue.element.data[0].x.length"
    assert page.run(count) == 300  # the simulated embryo says that it is one half
    names = "[...document.querySelectorAll('#views button')].map((e) => e.innerText)"
    assert page.run(names) == ["lateral", "dorsal", "ventral", "anterior", "posterior"]
    act(page, lambda: page.press("m"))
    assert page.run(count) == 150


def test_small_windows_scroll_in_one_direction_only(page):
    page.resize(400, 700)
    page.wait("explorer.tissue.element._fullLayout.width < 400")
    assert page.run("document.documentElement.scrollWidth") <= 400
    page.resize(960, 640)
    page.wait("explorer.tissue.element._fullLayout.width > 500")
    assert page.run("document.documentElement.scrollHeight") <= 640


def test_colours_show_a_column_of_the_locations(page, result):
    location = front(page)
    select = """(() => {
        const colour = document.getElementById("colour");
        colour.value = [...colour.options].find((each) => each.text === "%s").value;
        colour.dispatchEvent(new Event("change"));
    })()"""
    act(page, lambda: page.run(select % "segment"))
    kind = result.obs["segment"].iloc[location]
    expected = to_rgb({"head": "#0072B2", "tail": "#E69F00"}[kind])
    np.testing.assert_allclose(colour_at(page, place_of(page, location)), expected, atol=0.06)
    assert page.run("[...document.querySelectorAll('#legend li')].map((e) => e.innerText)") == [
        "head",
        "tail",
    ]
    assert "segment" in page.run("document.getElementById('said').textContent")
    saved = page.run(
        "explorer.overlay.save('', explorer.drawn.label, explorer.drawn).then((u) => u.slice(0, 22))"
    )
    assert saved == "data:image/png;base64,"
    act(page, lambda: page.run(select % "cells behind it"))
    np.testing.assert_allclose(
        page.run("Array.from(explorer.values)"), result.obs["effective_cells"], rtol=1e-5
    )
    choose(page, str(result.var_names[3]))  # back to genes
    assert page.run("document.getElementById('colour').value") == ""
    assert not page.run("document.getElementById('colours').hidden")


def test_genes_are_counted_and_listed_by_reliability(page, result):
    assert page.run("[...document.querySelectorAll('#belief button')].map((e) => e.innerText)") == [
        "40 good",
        "0 doubtful",
        "20 poor",
    ]
    page.run("(document.getElementById('order').value = 'reliability', explorer.search.sort())")
    order = page.run("explorer.search.sorted")
    assert (np.asarray(order[:40]) % 3 != 0).all()  # good ones first
    nested = result.var["score_nested"]
    expected = nested.where(nested.notna(), result.var["predicted"]).to_numpy()
    assert (np.diff(expected[order[:40]]) <= 1e-6).all()
    page.run("document.querySelectorAll('#belief button')[2].click()")
    page.wait("document.querySelectorAll('#matches li[role=option]').length === 20")
    shown = page.run("[...document.querySelectorAll('#matches li[role=option]')].map((e) => e.innerText)")
    assert all("poor" in each for each in shown)
    page.press("Escape")
    page.run("document.querySelectorAll('#belief button')[2].click()")
    assert page.run("explorer.search.only") is None


def test_a_landmark_has_its_map_beside_it(page, fit, result):
    name = str(fit.landmarks[2])
    act(page, lambda: page.run(f"explorer.update({{ gene: explorer.genes.indexOf({name!r}) }})"))
    act(page, lambda: page.press("b"))
    page.wait("explorer.two")
    column = list(fit.reference.genes).index(name)
    expected = np.log2(1 + np.asarray(fit.reference.values)[:, column])
    shown = np.array(page.run("Array.from(explorer.map)"))
    np.testing.assert_allclose(shown, expected, atol=np.ptp(expected) / 250)
    boxes = page.run(
        "['tissue', 'map'].map((id) => { const b = document.getElementById(id).getBoundingClientRect();"
        " return [b.left, b.right, b.width]; })"
    )
    assert boxes[0][1] <= boxes[1][0] + 1
    assert min(boxes[0][2], boxes[1][2]) > 100
    page.run("explorer.tissue.view('dorsal').then(() => 1)")
    page.wait("document.getElementById('map')._fullLayout.scene._scene.getCamera().eye.z > 0.99")
    other = str(next(each for each in result.var_names if each not in fit.landmarks))
    choose(page, other)
    assert page.run("document.getElementById('map').hidden")
    assert page.run("document.getElementById('map-label').hidden")


def test_controls_stay_in_one_line_and_names_off_the_tissue(page):
    page.resize(1400, 850)
    page.wait("explorer.tissue.element._fullLayout.width > 800")
    lines = page.run("""[...document.querySelectorAll("#stage .line, header")].map((line) => {
        const boxes = [...line.children].map((e) => e.getBoundingClientRect()).filter((b) => b.height);
        const lowest = Math.max(...boxes.map((b) => b.top));
        const highest = Math.min(...boxes.map((b) => b.bottom));
        return [line.scrollWidth - line.clientWidth, lowest, highest];
    })""")
    assert len(lines) == 3
    for beyond, lowest_top, highest_bottom in lines:
        assert beyond <= 0
        assert lowest_top < highest_bottom  # all share one line
    for view in ("lateral", "dorsal", "anterior"):
        page.run(f"explorer.tissue.view({view!r}).then(() => 1)")
        page.run("new Promise((done) => setTimeout(done, 400))")
        labels = page.run("""(() => {
            const t = explorer.tissue, [xs, ys] = t.project(t.points());
            const { left, top, right } = t.element.getBoundingClientRect();
            const within = (b, x, y) => x > b.left && x < b.right && y > b.top && y < b.bottom;
            return [...document.querySelectorAll("#overlay span")]
                .filter((e) => e.style.opacity === "1")
                .map((e) => e.getBoundingClientRect())
                .map((b) => [xs.some((x, i) => within(b, x + left, ys[i] + top)),
                             b.left >= left && b.right <= right]);
        })()""")
        assert len(labels) >= 2
        assert all(not covered and inside for covered, inside in labels), labels
    page.resize(960, 640)
    page.wait("explorer.tissue.element._fullLayout.width < 800")


def test_the_panel_of_a_location_keeps_its_height(page):
    height = "document.querySelector('.of-place').getBoundingClientRect().height"
    top = height.replace("height", "top") + " + document.querySelector('aside').scrollTop"
    before, at = page.run(height), page.run(top)
    act(page, lambda: page.press("h"))
    values = np.array(page.run("Array.from(explorer.values)"))
    assert page.run("explorer.state.place") == values.argmax()
    assert page.run(height) == before
    assert page.run(top) == at


def test_everything_can_be_reached_and_has_a_name(page):
    """What a keyboard and a screen reader need: names of all controls, an order that begins with a way in."""
    nameless = page.run("""
        [...document.querySelectorAll("button, input, select, [tabindex], [role=img]")]
            .filter((e) => !(e.innerText.trim() || e.ariaLabel || e.labels?.[0]?.innerText.trim()))
            .map((e) => e.outerHTML.slice(0, 80))
    """)
    assert nameless == []
    first = "document.querySelector('a[href], button, input, select, [tabindex]').className"
    assert page.run(first) == "skip"
    said = page.run("document.getElementById('said').textContent")
    assert page.run("explorer.genes[explorer.state.gene]") in said
    assert page.run("document.getElementById('said').getAttribute('aria-live')") == "polite"
    assert "highest at" in said


def test_flat_tissue_without_anything_more(browser, tmp_path):
    """From here on: these leave the page that the others share."""
    rng = np.random.default_rng(2)
    where = np.stack(np.meshgrid(np.arange(12.0), np.arange(8.0)), axis=-1).reshape(-1, 2)
    table = AnnData(rng.normal(size=(96, 30)).astype(np.float32))
    table.var_names, table.obsm["spatial"] = [f"Gene{i}" for i in range(30)], where
    write_explorer(table, tmp_path / "flat.html")
    opened(browser, tmp_path / "flat.html")
    choose(browser, "gene12")
    assert text(browser, "#gene") == "Gene12"
    values = np.array(browser.run("Array.from(explorer.values)"))
    np.testing.assert_allclose(values, table.X[:, 12], atol=0.5)
    place = place_of(browser, 40)
    expected = colormaps["viridis"]((values[40] - values.min()) / np.ptp(values))[:3]
    np.testing.assert_allclose(colour_at(browser, place), expected, atol=0.06)
    act(browser, lambda: browser.click(*place))
    assert browser.run("explorer.state.place") == 40
    assert browser.run("document.querySelectorAll('#views button, #top-cells').length") == 0
    finished(browser)


def test_a_block_of_points_is_shown_as_it_is(browser, tmp_path):
    """No mirror image and no names of an embryo's sides, unless they are asked for."""
    rng = np.random.default_rng(3)
    block = AnnData(rng.normal(size=(300, 5)).astype(np.float32))
    block.obsm["spatial"] = rng.random((300, 3)) * 100
    count = "explorer.tissue.element.data[0].x.length"
    labels = "[...document.querySelectorAll('#overlay span')].map((e) => e.innerText)"
    views = "[...document.querySelectorAll('#views button')].map((e) => e.innerText)"
    write_explorer(block, tmp_path / "block.html")
    opened(browser, tmp_path / "block.html")
    assert browser.run(count) == 300
    assert browser.run(labels) == ["x", "y", "z"]
    assert browser.run(views) == ["-y", "+y", "+z", "-z", "-x", "+x"]
    assert browser.run("document.getElementById('mirror-label').hidden")
    np.testing.assert_allclose(
        browser.run("explorer.tissue.points().map((e) => e[7])"), block.obsm["spatial"][7], rtol=1e-6
    )
    browser.press("6")
    browser.wait("explorer.tissue.element._fullLayout.scene._scene.getCamera().eye.x > 0.99")
    finished(browser)
    axes = {"x": ["head", "tail"], "z": "belly:back"}
    write_explorer(block, tmp_path / "half.html", mirror="z", axes=axes)
    opened(browser, tmp_path / "half.html")
    assert browser.run(count) == 600
    assert browser.run(labels) == ["head", "tail", "y"]
    _, y, z = np.array(browser.run("explorer.tissue.points()"))
    np.testing.assert_allclose(z[300:], -z[:300])
    np.testing.assert_array_equal(y[300:], y[:300])
    finished(browser)


def test_sections_lie_side_by_side_with_their_names(browser, tmp_path):
    rng = np.random.default_rng(4)
    where = np.stack(np.meshgrid(np.arange(10.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    table = AnnData(rng.normal(size=(180, 4)).astype(np.float32))
    table.obsm["spatial"] = np.concatenate([where] * 3)
    table.obs["slice"] = np.repeat(["first", "second", "third"], 60)
    table.uns["perler"] = {"section_key": "slice"}
    write_explorer(table, tmp_path / "sections.html")
    opened(browser, tmp_path / "sections.html")
    assert browser.run("[...document.querySelectorAll('#overlay .section')].map((e) => e.innerText)") == [
        "first",
        "second",
        "third",
    ]
    places = np.array([place_of(browser, each) for each in (7, 67, 127)])
    assert np.linalg.norm(places[0] - places[1]) > 50
    act(browser, lambda: browser.click(*places[1]))
    assert browser.run("explorer.state.place") == 67
    assert "at 7.0, 0.0" in text(browser, "#place")
    assert "second" in text(browser, "#facts-there")
    finished(browser)
