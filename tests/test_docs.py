"""The site: its code runs, its commands parse, its figures are those of committed results, and it builds."""

import ast
import functools
import http.server
import importlib
import os
import re
import shlex
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag

import pytest

import perler_jax
from perler_jax import plotting, trust
from perler_jax.app.arguments import build_parser
from tests.browser import Browser, browser_or_skip
from tests.docs_blocks import blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if DOCS / "generated" not in path.parents)

# Words of a question, and the pages that answer it: one of them is among the first that the search box finds.
QUESTIONS = {
    "install": ["start/install"],
    "GPU": ["start/install"],
    "API": ["reference/api"],
    "Tangram": ["start/is_it_for_me"],
    "cell2location": ["start/is_it_for_me"],
    "0.53 good": ["guides/scores"],
    "how many landmarks": ["guides/scores"],
    "Visium": ["guides/visium"],
    "which settings": ["guides/settings"],
    "Seurat": ["guides/seurat", "start/is_it_for_me"],
    "normalised": ["guides/data"],
    "zones": ["guides/reference"],
}


@functools.cache
def builder(name):
    """A module of docs/builders."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(f"builders.{name}")
    finally:
        sys.path.remove(str(DOCS))


def read(path):
    return path.read_text(encoding="utf-8")


def command_lines(text):
    """Lines of sh blocks that call our program, continued ones joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("perler-jax ") and "--help" not in line:
                yield line


def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\n% reads: some_data\n```python\ny = 2\n```\n```sh\nls\n```\n"
    assert blocks(text) == [(3, "x = 1\n", None), (7, "y = 2\n", "some_data")]


def test_every_python_block_of_the_pages_runs(run_script, tmp_path):
    pages = [str(path) for path in PAGES if blocks(read(path))]
    assert len(pages) > 12
    script = tmp_path / "pages.py"
    script.write_text(f"from tests.docs_blocks import main\nmain({pages!r})\n")
    run_script(script, hasty=True)


def test_every_command_line_of_the_pages_is_one():
    parser = build_parser()
    lines = [line for path in PAGES for line in command_lines(read(path))]
    assert len(lines) > 10
    for line in lines:
        parser.parse_args(shlex.split(line)[1:])
    with pytest.raises(SystemExit):
        parser.parse_args(["fit", "cells.h5ad", "reference.h5ad", "-o", "fit.npz", "--no-such-option"])


def test_figures_are_read_from_results_and_every_one_is_shown():
    figures = builder("figures")
    shown = {name for path in PAGES for name in re.findall(r"\{\{ (\w+\.\w+) \}\}", read(path))}
    made = {f"figures.{name}": each for name, each in figures.all_figures().items()}
    tables = {f"tables.{name}": each for name, each in figures.all_tables().items()}
    assert shown == set(made) | set(tables)
    assert made["figures.fly_nested"] == f"{figures.result('fly/results/fly.json', 'nested_loo_acc'):.2f}"
    assert tables["tables.accuracy"].count("\n") > 10
    with pytest.raises(KeyError):
        figures.result("fly/results/fly.json", "no such figure")


def test_settings_of_the_table_are_all_there_with_what_they_do():
    table = builder("figures").settings_table()
    assert len(table) == len(perler_jax.PerlerSettings.__dataclass_fields__)
    assert table["what it does"].str.len().min() > 5
    assert table.loc["`dtype`", "allowed"] == "`float32`, `float64`"


def test_pages_of_evidence_lead_to_pages_or_name_the_file(tmp_path):
    evidence = builder("evidence")
    evidence.make(tmp_path)
    claims = read(tmp_path / "claims.md")
    assert "](../" not in claims
    text = read(tmp_path / "validity.md")
    assert "[experiments/trust](trust.md)" in text
    for name in evidence.sources():
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", read(tmp_path / f"{name}.md")):
            assert (tmp_path / target).exists(), (name, target)


def test_every_plot_has_a_script_in_the_gallery():
    functions = {name for name in plotting.__all__ if name.startswith("plot_")}
    scripts = {path.stem: builder("gallery").parts(path) for path in builder("gallery").scripts()}
    assert set(scripts) == functions
    for name, (said, code) in scripts.items():
        assert said, name
        assert f"plotting.{name}(" in code, name


def texts():
    """Every text of the package, what is put in at run time left as three dots."""
    for path in Path(perler_jax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[ds]", "...", node.value)
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(getattr(part, "value", "...")) if isinstance(part, ast.Constant) else "..."
                    for part in node.values
                )


def test_messages_of_the_table_are_those_of_the_package():
    rows = re.findall(r"^\| ([^|]+) \|", read(DOCS / "reference" / "messages.md"), re.MULTILINE)[1:]
    said = list(texts())
    assert len(rows) > 10
    for row in rows:
        pattern = ".*".join(map(re.escape, row.split("...")))
        assert any(re.match(pattern, text) for text in said), row


def test_public_names_are_in_the_reference():
    text = read(DOCS / "reference" / "api.md")
    listed = set(re.findall(r"^   (\w+)$", text, re.MULTILINE))
    drawing = {name for name in plotting.__all__ if name.startswith("plot_")}
    assert set(perler_jax.__all__) | set(trust.__all__) | drawing <= listed


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site: that of `make docs` where PERLER_JAX_SITE names its folder, else built here."""
    if "PERLER_JAX_SITE" in os.environ:
        return ROOT / os.environ["PERLER_JAX_SITE"]
    for needed in ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton"):
        pytest.importorskip(needed, reason=f"no {needed}: pip install --group docs, or make docs")
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, folder]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_links_inside_the_site_are_alive(site):
    found, dead = 0, set()
    for page in site.rglob("*.html"):
        if "_static" in page.parts:
            continue  # templates of the theme
        for link in re.findall(r'(?:href|src)="([^"]+)"', read(page)):
            if re.match(r"[a-z]+:|//", link):
                continue
            found += 1
            path, anchor = urldefrag(unquote(link))
            target = page.parent / path.partition("?")[0] if path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                anchor and target.suffix == ".html" and f'id="{anchor}"' not in text_of(target)
            ):
                dead.add((page.relative_to(site).as_posix(), link))
    assert found > 1000
    assert not dead


@functools.cache
def text_of(path):
    return read(path)


@contextmanager
def served(folder):
    """The folder under an address: a search page cannot read its index from a file."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_search_box_finds_the_page_that_answers(site, tmp_path):
    browser_or_skip()
    browser = Browser(tmp_path / "profile")
    missed = {}
    try:
        with served(site) as address:
            for words, answers in QUESTIONS.items():
                browser.call("Page.navigate", url=f"{address}/search.html?q={quote(words)}")
                browser.wait(
                    f"location.search.includes({quote(words)!r}) && /search finished|did not match/i.test("
                    "document.querySelector('#search-results .search-summary')?.textContent) || null"
                )
                links = browser.run(
                    "[...document.querySelectorAll('#search-results li > a')].map(a => a.pathname)"
                )
                pages = list(dict.fromkeys(link.strip("/").removesuffix(".html") for link in links))[:5]
                if not set(answers) & set(pages):
                    missed[words] = pages
    finally:
        browser.close()
    assert not missed
