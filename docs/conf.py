"""Configuration of the site: `make docs` builds it into build/docs, warnings being errors."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from builders import evidence, figures, gallery, tutorials  # noqa: E402

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _PROJECT["name"]
author = _PROJECT["authors"][0]["name"]
project_copyright = author
version = release = _PROJECT["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_templates", "builders", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Pages are Markdown; notebooks are shown as they are committed, with the outputs that their tests checked.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
# No figure is typed on a page: {{ figures.fly_nested }} comes from the committed results.
myst_substitutions = {"figures": figures.all_figures(), "tables": figures.all_tables()}

autosummary_generate = True
autosummary_imported_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_display_short_literal_types = True
maximum_signature_line_length = 88
default_role = "py:obj"  # `name` in a docstring is a link where there is such a name
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # shapes stand in the text already
napoleon_use_rtype = False
napoleon_custom_sections = [("Warns", "returns_style")]

html_theme = "sphinx_book_theme"
html_title = "perler_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_persistent": [],  # the search box stands at the side
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    # TODO(owner): "repository_url" and "use_repository_button", once the sources have an address.
}
html_baseurl = ""  # TODO(owner): the address of the site, once it has one


def setup(app: object) -> dict[str, bool]:
    """Make the pages that are not written by hand, before Sphinx looks for pages."""
    made = HERE / "generated"
    evidence.make(made / "evidence")
    tutorials.make(made / "tutorials")
    gallery.make(made / "gallery")
    return {"parallel_read_safe": True}
