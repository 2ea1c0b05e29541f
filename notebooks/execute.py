"""Execute the notebooks in place: ``python -m notebooks.execute``, or ``make notebooks``."""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HOME = Path(__file__).parent


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh kernel; an error in a cell is raised."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(HOME)}},
    )
    client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress"})  # no widgets needed
    notebook.metadata.pop("language_info", None)  # the Python that happened to run it
    return notebook


def main() -> None:
    """All of them."""
    for path in sorted(HOME.glob("*.ipynb")):
        print(path.name)
        nbformat.write(executed(path), path)


if __name__ == "__main__":
    main()
