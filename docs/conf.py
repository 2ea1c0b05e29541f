"""The site: make docs.  It is built from the root, so that its links are those of the files."""

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # of the extension that writes the command line's page

project = "lowerbound"
release = metadata.version("lowerbound")
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "build", "runs", "**/__pycache__"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "flags"]
html_theme = "furo"
html_title = project
smartquotes = False  # they would eat the dashes of flags
html_extra_path = ["redirect"]

nb_execution_mode = "off"  # the notebooks are committed as they ran
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a notebook's headings are its own

autodoc_typehints = "none"  # the signatures' names say enough; docstrings give shapes and units
autodoc_member_order = "bysource"
napoleon_use_ivar = True
