"""The site. It builds without internet; GML_DOCS_ONLINE=1 adds links to the docs of other packages."""

import os
import shutil
import tomllib
import warnings
from pathlib import Path

# sphinx_autodoc_typehints' own affair, and one line per function
warnings.filterwarnings("ignore", message=".*_RstSnippetParser.set_application")

# Sphinx reads below this folder only; copies keep their times, so that what did not change is not built again
shutil.rmtree(Path(__file__).with_name("tutorials"), ignore_errors=True)
shutil.copytree(
    Path(__file__).parents[1] / "tutorials",
    Path(__file__).with_name("tutorials"),
    ignore=lambda _folder, names: [name for name in names if not name.endswith(".ipynb")],
)

_project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "gml"
author = _project["authors"][0]["name"]
project_copyright = f"2026, {author}"
version = release = _project["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",  # after napoleon
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# reference
nitpicky = True  # a name of gml, a term or a page that does not exist is an error ...
nitpick_ignore_regex = [("py:.*", r"(?!gml\b).*")]  # ... names of other packages resolve only online
nitpick_ignore = [
    ("py:class", "gml._anndata._gene_map.GeneMap"),  # not made by users; the page of slots lists what is in it
    ("py:class", "gml.solvers.Solver"),  # any of the settings of solvers, which have pages of their own
]
default_role = "code"  # `adata` in a docstring is code
autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False  # free text below `Returns` is not a type
typehints_defaults = "braces"
always_use_bars_union = True
typehints_document_rtype = False  # `Returns` says more

# pages
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are shown with the outputs that they hold
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"

if os.environ.get("GML_DOCS_ONLINE"):
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "sklearn": ("https://scikit-learn.org/stable/", None),
    }

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["gml.css"]
html_title = "gml"
html_theme_options = {
    "navbar_persistent": [],  # the sidebar has a search field already
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
html_show_sourcelink = False


def _keep_colons(_app, what, _name, _object, _options, lines):
    """Stop napoleon from reading "The map: its rows are …" below an attribute as type and description."""
    if what in {"attribute", "property"}:
        lines[:0] = ["..", ""]  # an empty comment


def setup(app):
    app.connect("autodoc-process-docstring", _keep_colons, priority=100)  # before napoleon
