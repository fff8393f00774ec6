"""Run the notebooks of this folder and store what they give: ``make tutorials``, or this script with file names."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient

if TYPE_CHECKING:
    from nbformat import NotebookNode

HERE = Path(__file__).parent
WITHOUT_OUTPUTS = ("kuppe22.ipynb",)  # need the network
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ENVIRONMENT = {"PYTHONWARNINGS": "ignore:IProgress not found"}  # UMAP asks for bars that we would not keep
_OVERWRITTEN = re.compile(r"[^\n]*\r")  # progress bars
_FILE_OF_CELL = re.compile(r"\S*ipykernel_\d+/\d+\.py:\d+: ")  # where a warning comes from


def run(notebook: NotebookNode, *, folder: Path, limit: float) -> None:
    """Run the cells in one kernel, in `folder`, for at most `limit` seconds, and keep what they give."""
    end = time.monotonic() + limit
    NotebookClient(
        notebook,
        timeout_func=lambda _cell: max(1.0, end - time.monotonic()),
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
        record_timing=False,
    ).execute(env=os.environ | ENVIRONMENT)


def execute(path: Path, *, folder: Path, limit: float) -> NotebookNode:
    """The notebook with new outputs, fit to be stored."""
    notebook = nbformat.read(path, as_version=4)
    run(notebook, folder=folder, limit=limit)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_tidy, cell.outputs) if output.get("text") != ""]
    return notebook


def _tidy(output: NotebookNode) -> NotebookNode:
    """The output as a terminal would show it in the end, without folders of this machine."""
    if output.output_type == "stream":
        output.text = _FILE_OF_CELL.sub("", _OVERWRITTEN.sub("", output.text))
    return output


def main(names: list[str]) -> None:
    """Store new outputs in the named notebooks, or in all that have some."""
    paths = [Path(name) for name in names] or sorted(set(HERE.glob("*.ipynb")) - {HERE / n for n in WITHOUT_OUTPUTS})
    for path in paths:
        began = time.monotonic()
        with TemporaryDirectory() as folder:
            notebook = execute(path, folder=Path(folder), limit=600)
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
