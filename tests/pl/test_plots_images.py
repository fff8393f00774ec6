"""Pictures of all plots, compared with those in `images`: they fail when something moves or changes its colour.

Axes have a fixed place, since the size of a new figure depends on how a version of matplotlib draws letters. The
pictures were drawn with matplotlib 3.11. To renew one, delete it, run its test, which draws it and fails, and look at
it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Annotation, Text

import gml

IMAGES = Path(__file__).with_name("images")
# root mean square of 255 levels; marks of legends move by a pixel from 3.9 (up to 9), other colours give 7 to 40
TOLERANCE = 2.0 if mpl.__version__.startswith("3.11.") else 10.0
DISEASES = ("flu", "healthy", "sepsis")


@pytest.fixture(autouse=True)
def canvas() -> Iterator[None]:
    """Draw into memory with the style of matplotlib, and leave nothing open."""
    plt.switch_backend("Agg")
    with mpl.style.context("default"):
        before = dict(mpl.rcParams)
        yield
        assert dict(mpl.rcParams) == before
    plt.close("all")


def names(n: int) -> list[str]:
    return [f"gene_{number}" for number in range(n)]


def make_patients(n: int = 24) -> AnnData:
    """Patients on a plane, a disease in each corner of a triangle; some have no disease, or no age."""
    rng = np.random.default_rng(0)
    code = np.arange(n) % 3
    points = rng.standard_normal((n, 2)) + np.array([(0, 0), (6, 0), (3, 5)])[code]
    disease = pd.Categorical.from_codes(np.where(np.arange(n) % 11 == 10, -1, code), list(DISEASES))
    age = np.where(np.arange(n) % 7 == 6, np.nan, rng.uniform(20, 80, n))
    obs = pd.DataFrame({"disease": disease, "age": age, "sex": pd.Categorical(rng.permutation(["f", "m"] * (n // 2)))})
    obs["gml_score_flu"] = np.tanh(1.5 - points[:, 0] / 2)
    obs.index = [f"P{number:02d}" for number in range(n)]
    patients = AnnData(rng.uniform(size=(n, 1)), obs=obs, var=pd.DataFrame(index=["CD19"]))
    patients.obsp["gml_distances"] = np.linalg.norm(points[:, None] - points, axis=2)
    patients.obsm["X_gml_mds"] = points - points.mean(axis=0)
    patients.uns["gml"] = {"params": {"disease_key": "disease", "method": "triplet"}, "loss": 3 * 0.8 ** np.arange(12)}
    patients.uns["sex_colors"] = ["#222222", "#BBBBBB"]
    return patients


def make_cells(n: int = 120) -> AnnData:
    """Cells of two diseases, and eight genes with loadings in all directions."""
    rng = np.random.default_rng(1)
    obs = pd.DataFrame({"disease": pd.Categorical.from_codes(np.arange(n) % 2, list(DISEASES[:2]))})
    obs.index = [f"cell_{number}" for number in range(n)]
    angle = np.arange(8) * 0.8
    adata = AnnData(rng.uniform(size=(n, 8)), obs=obs, var=pd.DataFrame(index=names(8)))
    adata.obsm["X_gml"] = rng.standard_normal((n, 2)) + np.outer(np.arange(n) % 2, [3, 0])
    adata.varm["gml"] = np.column_stack([np.cos(angle), np.sin(angle)]) * np.linspace(1, 0.3, 8)[:, None]
    return adata


def make_learned() -> AnnData:
    """Cells with a metric in closed form, with eigenvalues of our own."""
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=10)
    gml.tl.learn_metric(adata, method="discriminant")
    adata.uns["gml"]["spectrum"] = np.linspace(1, -0.3, 9)
    return adata


def make_scores() -> gml.Tuning:
    """What `cross_validate` or `tune` returns."""
    rng = np.random.default_rng(2)
    methods = [("euclidean", "knn"), ("discriminant", "knn"), ("majority", "direct")]
    rows, predictions = [], []
    for split in range(8):
        for level, (metric, readout) in enumerate(methods):
            key = {"split": split, "metric": metric, "readout": readout}
            score = 0.8 - 0.15 * level + rng.uniform(0, 0.1)
            rows.append(key | {"n_train": 14, "n_test": 6, "balanced_accuracy": score})
            truth = np.repeat(DISEASES, 4)
            predicted = np.where(rng.uniform(size=12) < 0.7, truth, DISEASES[0])
            predictions.append(pd.DataFrame(key | {"patient": "", "disease": truth, "predicted": predicted}))
    search = pd.DataFrame(
        {
            "candidate": ["euclidean", "discriminant", "whitened"],
            "auc": [0.6, 0.75, 0.8],
            "gain_error": [0.0, 0.05, 0.15],
            "chosen": [False, True, False],
        }
    )
    return gml.Tuning(
        table=pd.DataFrame(rows),
        predictions=pd.concat(predictions, ignore_index=True),
        params={},
        best={},
        search=search,
    )


def make_ranking() -> pd.DataFrame:
    importance = 2.0 * 0.7 ** np.arange(8)
    table = pd.DataFrame({"importance": importance, "importance_low": 0.8 * importance, "stable": importance > 1})
    table["importance_high"] = importance + 0.2
    for code, disease in enumerate(DISEASES):
        table[f"direction_{disease}"] = np.where(np.arange(8) % 3 == code, 1.0, -0.5)
    return table.set_index(pd.Index(names(8)))


def make_pairs() -> pd.DataFrame:
    types = ("B", "T", "NK")
    mass = np.array([0.3, 0.1, 0.0, 0.05, 0.2, 0.15, 0.0, 0.05, 0.15])
    source, target = (np.array(types)[index] for index in np.divmod(np.arange(9), 3))
    table = pd.DataFrame({"source": source, "target": target, "mass": mass, "part": mass * [1, 4, 5, 4, 1, 3, 5, 3, 1]})
    table.attrs = {"p": "P00", "q": "P01", "distance": table["part"].sum()}
    return table


def make_parts() -> pd.DataFrame:
    table = pd.DataFrame({"part": [3.0, 1.5, 1.0, 0.5, -0.5, -1.0]}, index=names(6))
    table.attrs = {"p": "P00", "q": "P01", "distance": table["part"].sum()}
    return table


def make_types() -> pd.DataFrame:
    columns = {"cell_type": ["B", "T", "NK", "(all cells)"], "n_patients": [24, 24, 20, 24]}
    scores = np.array([0.9, 0.7, 0.5, 0.8])
    return pd.DataFrame(
        columns | {"balanced_accuracy": scores, "low": scores - 0.1, "high": scores + 0.05, "chance": 1 / 3}
    )


def hide_letters(figure: Figure) -> None:
    """Leave shapes and colours: letters are tested elsewhere, and each version of matplotlib draws them in its way."""
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        if isinstance(text, Annotation):
            text.set_text("")  # and keep the arrow
        else:
            text.set_visible(False)


STRIPS = ["sex", "age"]
DRAWN: dict[str, Callable[[Axes], Axes]] = {
    "confusion_matrix": lambda ax: gml.pl.confusion_matrix(make_scores(), ax=ax),
    "cross_validate": lambda ax: gml.pl.cross_validate(make_scores(), ax=ax),
    "explain_distance": lambda ax: gml.pl.explain_distance(make_pairs(), ax=ax),
    "explain_distance_by_gene": lambda ax: gml.pl.explain_distance(make_parts(), ax=ax),
    "loadings": lambda ax: gml.pl.loadings(make_cells(), ax=ax),
    "loss": lambda ax: gml.pl.loss(make_patients(), ax=ax),
    "metric": lambda ax: gml.pl.metric(make_cells(), color="disease", ax=ax),
    "patient_embedding": lambda ax: gml.pl.patient_embedding(make_patients(), ax=ax),
    "patient_embedding_of_numbers": lambda ax: gml.pl.patient_embedding(make_patients(), color="age", ax=ax),
    "patient_heatmap": lambda ax: gml.pl.patient_heatmap(make_patients(), ax=ax),
    "patient_heatmap_with_strips": lambda ax: gml.pl.patient_heatmap(make_patients(), color=STRIPS, ax=ax),
    "rank_cell_types": lambda ax: gml.pl.rank_cell_types(make_types(), ax=ax),
    "rank_genes": lambda ax: gml.pl.rank_genes(make_ranking(), ax=ax),
    "score_patients": lambda ax: gml.pl.score_patients(make_patients(), ax=ax),
    "spectrum": lambda ax: gml.pl.spectrum(make_learned(), ax=ax),
    "transport_plan": lambda ax: gml.pl.transport_plan(make_pairs(), ax=ax),
    "tune": lambda ax: gml.pl.tune(make_scores(), ax=ax),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_picture(name: str, tmp_path: Path) -> None:
    figure = plt.figure(figsize=(4.4, 3.6), dpi=50)
    # edges on whole pixels, which all versions draw alike
    ax = figure.add_axes((40 / 220, 40 / 180, 110 / 220, 110 / 180))
    assert DRAWN[name](ax) is ax
    assert plt.get_fignums() == [figure.number]
    hide_letters(figure)
    expected, actual = IMAGES / f"{name}.png", tmp_path / f"{name}.png"
    is_new = not expected.exists()
    figure.savefig(expected if is_new else actual, metadata={"Software": None}, pil_kwargs={"optimize": True})
    assert not is_new, f"{expected} was not there and is drawn now; look at it."
    failure = compare_images(str(expected), str(actual), tol=TOLERANCE)
    assert failure is None, failure


def test_all_plots_have_a_picture() -> None:
    missing = [name for name in gml.pl.__all__ if name not in DRAWN]
    assert not missing
    assert {path.stem for path in IMAGES.glob("*.png")} == set(DRAWN)
