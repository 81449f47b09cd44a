"""What the documents say that can be looked up: DOIs, links, paths, modules, targets of make, extras."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAPER = "10.1038/s41467-021-24014-x"
DOIS = {PAPER}  # what the project cites; each was looked up
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

GENERATED = ROOT / "docs" / "generated"  # made of other pages when the site is built
PAGES = sorted(
    path
    for pattern in ("*.md", "CITATION.cff", "docs/**/*.md", "experiments/**/*.md")
    for path in ROOT.glob(pattern)
    if GENERATED not in path.parents
)
SCRIPTS = sorted(ROOT.glob("notebooks/[0-9]*.py"))
SOURCES = sorted([*(ROOT / "perler_jax").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])
FILES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("perler_jax", "experiments", "notebooks", "tests", "docs", ".ci", ".github", "conda")
    for path in (ROOT / folder).rglob("*")
    if "__pycache__" not in path.parts
] + [path.name for path in ROOT.iterdir()]

DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"'`<>)\],]*[^\s\"'`<>)\],.;]")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A file of ours: its ending says so. What users have (npz, h5ad, csv) has other endings.
NAMED = re.compile(r"(?<![\w./*{<-])((?:[\w.-]+/)*[\w-]+\.(?:py|ipynb|md|toml|cff|sh|yml))(?![\w/])")
PLACEHOLDER = re.compile(r"\bNAME\b|^path/to/")
FOLDER = re.compile(r"(?<![\w./-])((?:experiments|notebooks|tests|perler_jax|docs)/[\w./-]*\w)")
MODULE = re.compile(r"python -m ((?:experiments|perler_jax)[\w.]*\w)")


def read(path):
    return path.read_text(encoding="utf-8")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def anchors(text):
    """Of the headings of a page, as code hosts make them."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def dead_links(path):
    """Relative links of a page whose file or heading is not there."""
    for link in LINK.findall(read(path)):
        if re.match(r"https?:|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in anchors(read(file))):
            yield link


def unknown_paths(path):
    """Files, folders and modules of ours that a page names and that are not there."""
    text = re.sub(r"https?://\S+", "", read(path))
    for named in NAMED.findall(text):
        if PLACEHOLDER.search(named):
            continue
        if not (path.parent / named).exists() and not any(f"/{file}".endswith(f"/{named}") for file in FILES):
            yield named
    for folder in FOLDER.findall(text):
        if not (ROOT / folder).exists() and not (path.parent / folder).exists():
            yield folder
    for module in MODULE.findall(text):
        file = ROOT.joinpath(*module.split("."))
        if not file.with_suffix(".py").exists() and not (file / "__main__.py").exists():
            yield module


def page_of_an_index():
    """The README as the build makes it for a package index."""
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    parts = (read(ROOT / each["path"]) if "path" in each else each["text"] for each in hook["fragments"])
    page = "".join(parts)
    for each in hook["substitutions"]:
        page = re.sub(each["pattern"], each["replacement"], page)
    return page


def test_the_readers_find_what_they_look_for(tmp_path):
    """They would pass on anything if their patterns matched nothing."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`: c!\n[x](#a-b-c) [y](#d) [z](gone.md) [w](page.md#a-b-c) ![p](p.png) [o](https://a.b/c.md)\n"
        "see `nowhere.py`, em_loop.py, path/to/a.py, `experiments/nothing`, experiments/fly\n"
        "and `python -m experiments.none`,\n"
        "doi 10.1234/ab-1.2. and https://doi.org/10.1234/cd)\n"
    )
    assert list(dead_links(page)) == ["#d", "gone.md", "p.png"]
    assert list(unknown_paths(page)) == ["gone.md", "nowhere.py", "experiments/nothing", "experiments.none"]
    assert DOI.findall(read(page)) == ["10.1234/ab-1.2", "10.1234/cd"]


def test_every_doi_is_one_of_the_list():
    found = {
        (name_of(path), doi)
        for path in [*PAGES, *SCRIPTS, *SOURCES, ROOT / "pyproject.toml"]
        for doi in DOI.findall(read(path))
    }
    assert {doi for _, doi in found} == DOIS, sorted(found)
    assert {name for name, doi in found if doi == PAPER} >= {"README.md", "CITATION.cff", "pyproject.toml"}


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=name_of)
def test_links_lead_somewhere(path):
    assert not list(dead_links(path))


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=name_of)
def test_named_files_and_modules_are_there(path):
    assert not list(unknown_paths(path))


def test_targets_of_make_are_there():
    targets = set(re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:^ *|`)make ([\w-]+)", read(page), re.MULTILINE))
        assert named, name_of(page)
        assert named <= targets, name_of(page)


def test_the_page_of_a_package_index_links_to_nothing_that_it_lacks():
    page = page_of_an_index()
    links = LINK.findall(page)
    assert links
    assert all(link.startswith(("https://", "#")) for link in links), links
    assert "experiments/fly/results/held_out.png" in page, "what a link led to is still named"
    assert "[a prior of your own]" not in page


def test_the_citation_is_of_this_release():
    (version,) = re.findall(r"^version: (.+)$", read(ROOT / "CITATION.cff"), re.MULTILINE)
    assert version == PROJECT["project"]["version"]


def test_pythons_that_are_claimed_begin_with_the_lowest():
    classifiers = PROJECT["project"]["classifiers"]
    claimed = [each.rpartition(" ")[2] for each in classifiers if "Python :: 3." in each]
    assert claimed
    assert PROJECT["project"]["requires-python"] == f">={claimed[0]}"


def test_extras_that_messages_name_are_there():
    extras = PROJECT["project"]["optional-dependencies"]
    named = {
        extra
        for path in [*PAGES, *SCRIPTS, *SOURCES]
        for extra in re.findall(r"perler_jax\[(\w+)\]", read(path))
    }
    assert named == set(extras)
    assert any(re.match(r"jax\[cuda\d+\]", each) for each in extras["gpu"])
