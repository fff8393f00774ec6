"""The tutorials run, and their stored outputs are fit to be shown."""

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import gml
from gml.datasets._cellxgene import COHORTS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tutorials"
TOOLS = runpy.run_path(str(FOLDER / "execute.py"))
ALL = sorted(path.name for path in FOLDER.glob("*.ipynb"))
EXECUTED = [name for name in ALL if name not in TOOLS["WITHOUT_OUTPUTS"]]
LARGEST = 1_000_000  # bytes of a notebook
LONGEST = 900  # seconds before they count as stuck; on two idle cores all take two minutes


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def read(name: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.mark.slow
def test_all_run(tmp_path: Path) -> None:
    """In one kernel, as each would import the same packages; a cell that raises, or the time limit, raises here."""
    cells = []
    for name in EXECUTED:
        (tmp_path / name).mkdir()
        cells.append(nbformat.v4.new_code_cell(f"%reset -f\nimport os\nos.chdir({str(tmp_path / name)!r})\ndel os"))
        cells += code_of(read(name))
    done = nbformat.v4.new_notebook(cells=cells)
    stored = ["image/png" in str(cell.outputs) for cell in cells]
    TOOLS["run"](done, folder=tmp_path, limit=LONGEST)
    assert ["image/png" in str(cell.outputs) for cell in done.cells] == stored
    assert sum(stored) >= len(EXECUTED)


@pytest.mark.parametrize("name", EXECUTED)
def test_stored_outputs(name: str) -> None:
    cells = code_of(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))  # all, in one go
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    text = json.dumps([{key: value for key, value in output.items() if key != "data"} for output in outputs])
    text += json.dumps([output.data.get("text/plain") for output in outputs if "data" in output])
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|usr|work|Users|opt|var)/|[A-Z]:\\\\|ipykernel|it/s", text)
    assert (FOLDER / name).stat().st_size < LARGEST


@pytest.mark.parametrize("name", ALL)
def test_metadata_is_clean(name: str) -> None:
    notebook = read(name)
    assert notebook.metadata == TOOLS["METADATA"]
    assert not [cell.metadata for cell in notebook.cells if cell.metadata]


def test_every_notebook_is_in_the_index() -> None:
    index = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^tutorials/(\w+)$", index, re.MULTILINE)) == [Path(name).stem for name in ALL]


def stand_in() -> AnnData:
    """A small simulated cohort in the form in which CELLxGENE serves the hearts: three groups, donors with several."""
    adata = gml.datasets.simulated_cohort(
        n_patients=12, n_cells=24, n_genes=120, n_diseases=3, n_cell_types=2, effect=3.0, patient_effect=0.2
    )
    number = adata.obs["patient"].cat.codes.to_numpy()
    groups = {"disease_1": "fibrotic", "disease_2": "ischemic", "disease_3": "myogenic"}
    obs = pd.DataFrame(
        {
            "sample": adata.obs["patient"],
            "patient_group": adata.obs["disease"].cat.rename_categories(groups),
            "donor_id": pd.Categorical([f"D{i // 2}" for i in number]),
            "cell_type": adata.obs["cell_type"],
            "disease": pd.Categorical(np.where(number % 3 < 2, "myocardial infarction", "normal")),
        }
    )
    var = pd.DataFrame({"feature_name": pd.Categorical(adata.var_names)}, index=[f"ENSG{i:05d}" for i in range(120)])
    served = AnnData(adata.X, obs=obs, var=var)
    served.raw = served.copy()
    sc.pp.normalize_total(served)
    sc.pp.log1p(served)
    del served.uns["log1p"]
    return served


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The set_bad function:PendingDeprecationWarning")  # of scanpy
def test_kuppe22_on_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = stand_in()
    served.write_h5ad(tmp_path / f"{COHORTS['kuppe22'].version}.h5ad")
    monkeypatch.setenv("GML_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(COHORTS, "kuppe22", replace(COHORTS["kuppe22"], shape=served.shape))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with mpl.rc_context({"backend": "agg"}):
        for cell in code_of(read("kuppe22.ipynb")):
            assert cell.outputs == []
            exec(cell.source, names)
        plt.close("all")
    patients, types = names["patients"], names["types"]
    assert isinstance(patients, AnnData)
    assert patients.obs_names.tolist() == sorted(served.obs["sample"].unique())
    assert isinstance(types, pd.DataFrame)
    assert types["cell_type"][0] == "type_1"  # the one that the simulation changes
    assert gml.GroundMetric.load(tmp_path / "kuppe22_metric.h5").classes.tolist() == [
        "fibrotic",
        "ischemic",
        "myogenic",
    ]
