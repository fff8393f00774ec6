"""Inputs that are odd but valid give what the ordinary ones give, from learning to prediction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import gml

SLOW = pytest.mark.slow

Edit = Callable[[AnnData], AnnData | None]
QUERY = ["P06", "P07", "P08"]


def cohort() -> AnnData:
    """Nine patients of three diseases, whole numbers up to about 250 in four genes, the first with the signal."""
    adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=12, n_features=4, noise=1.0)
    adata.X = np.rint(4 * (adata.X - adata.X.min()))
    return adata


@dataclass(frozen=True)
class Result:
    """What comes out at each step."""

    distances: np.ndarray
    predicted: list[str]
    probabilities: np.ndarray
    components: np.ndarray
    patients: list[str]


def run(adata: AnnData, *, rows: np.ndarray | None = None, method: Any = "discriminant", **settings: Any) -> Result:
    """Learn on some patients, measure them, and predict the others; `rows` are the cells of the latter."""
    rows = adata.obs["patient"].astype(str).isin(QUERY).to_numpy() if rows is None else rows
    reference, query = adata[~rows].copy(), adata[rows].copy()
    gml.tl.learn_metric(reference, method=method, use_rep="X", **settings)
    patients = gml.tl.patient_distances(reference)
    predicted = gml.tl.predict(query, reference)
    return Result(
        patients.obsp["gml_distances"],
        predicted.obs["gml_predicted"].astype(str).tolist(),
        predicted.obsm["gml_probabilities"].to_numpy(),
        gml.get.metric(reference).components,
        patients.obs_names.tolist(),
    )


@pytest.fixture(scope="module")
def ordinary() -> Result:
    return run(cohort())


def as_x(change: Callable[[np.ndarray], Any]) -> Edit:
    def edit(adata: AnnData) -> None:
        adata.X = change(adata.X)

    return edit


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def as_dask(x: Any) -> Any:
    import dask.array as da

    return da.from_array(x, chunks=(7, 3))


def sparse_dask(x: np.ndarray) -> Any:
    import dask.array as da

    return da.from_array(x, chunks=(20, -1)).map_blocks(sp.csr_matrix)


def more_genes(*columns: float) -> Edit:
    """Constant genes beside the others."""

    def edit(adata: AnnData) -> AnnData:
        names = [f"constant_{i}" for i in range(len(columns))]
        constant = AnnData(np.tile(columns, (adata.n_obs, 1)), obs=adata.obs[[]], var=pd.DataFrame(index=names))
        return ad.concat([adata, constant], axis=1, merge="first")

    return edit


def denormal(x: np.ndarray) -> np.ndarray:
    """Numbers too small to have all digits, where there were zeros."""
    return np.where(x == 0, 1e-310, x)


def view_of_a_view(adata: AnnData) -> AnnData:
    twice = ad.concat([adata, adata], keys=["one", "two"], index_unique="-", merge="first")
    return twice[twice.obs_names.str.endswith("-one")][:, adata.var_names]


def shuffled(adata: AnnData) -> AnnData:
    return adata[np.random.default_rng(0).permutation(adata.n_obs), ::-1].copy()


# the same cells in another form: the same distances, predictions and probabilities


FORMS: dict[str, Edit] = {
    "float32": as_x(lambda x: x.astype(np.float32)),
    "float16": as_x(lambda x: x.astype(np.float16)),
    "integers": as_x(lambda x: x.astype(np.int64)),
    "small integers": as_x(lambda x: x.astype(np.uint8)),
    "csr": as_x(sp.csr_matrix),
    "csc": as_x(sp.csc_matrix),
    "csr array": as_x(sp.csr_array),
    "csr of integers": as_x(lambda x: sp.csr_matrix(x.astype(np.int32))),
    "coo, as csr": as_x(lambda x: sp.coo_matrix(x).tocsr()),
    "dask": as_x(as_dask),
    "dask of csr": as_x(sparse_dask),
    "read-only": as_x(read_only),
    "Fortran order": as_x(np.asfortranarray),
    "other byte order": as_x(lambda x: x.astype(">f8")),
    "rows of a larger array": as_x(lambda x: np.repeat(x, 2, axis=0)[::2]),
    "nothing masked": as_x(np.ma.array),
    "view of a view": view_of_a_view,
    "shuffled": shuffled,
    "denormal": as_x(denormal),
}


@pytest.mark.parametrize("edit", FORMS.values(), ids=FORMS)
def test_other_forms_of_the_same_cells(edit: Edit, ordinary: Result) -> None:
    adata = cohort()
    found = run(edit(adata) or adata)
    np.testing.assert_allclose(found.distances, ordinary.distances, rtol=1e-5, atol=1e-5)
    assert found.predicted == ordinary.predicted
    np.testing.assert_allclose(found.probabilities, ordinary.probabilities, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["Float64", "Int32", "Sparse[float]"])
def test_tables_of_other_numbers(dtype: str) -> None:
    """Without a missing one they are numbers like others."""
    adata = cohort()
    table = pd.DataFrame(adata.X, index=adata.obs_names, columns=list("abcd")).astype(int)
    adata.obsm["table"] = table.astype(dtype).assign(a=table["a"].astype(float))
    first, second = (gml.tl.patient_distances(adata, metric=None, use_rep=rep) for rep in ("X", "table"))
    np.testing.assert_array_equal(first.obsp["gml_distances"], second.obsp["gml_distances"])


CONSTANT: dict[str, tuple[float, ...]] = {
    "a gene of zeros": (0.0,),
    "many genes of zeros": (0.0,) * 30,
    "constant genes": (1.0, -7.5),
    "a constant that is large": (1e6,),
}


@pytest.mark.parametrize("columns", CONSTANT.values(), ids=CONSTANT)
def test_constant_genes_play_no_part(columns: tuple[float, ...], ordinary: Result) -> None:
    found = run(more_genes(*columns)(cohort()))
    np.testing.assert_allclose(found.distances, ordinary.distances, rtol=1e-6)
    np.testing.assert_allclose(found.components[:, 4:], 0, atol=1e-6 * np.abs(found.components).max())
    assert found.predicted == ordinary.predicted


@pytest.mark.slow
@pytest.mark.parametrize("method", ["discriminant", "auto", gml.methods.Triplet(max_iter=5)], ids=str)
@pytest.mark.parametrize("exponent", [490, 300, -300, -465])  # 3e147 to 1e-140; ties stay ties
def test_any_unit(exponent: int, method: Any) -> None:
    """What is measured in other units is the same under a metric that was learned in them."""
    ordinary, other, unit = cohort(), cohort(), 2.0**exponent
    other.X = other.X * unit
    first, second = run(ordinary, method=method), run(other, method=method)
    learned = method != "auto" or not np.array_equal(first.components, np.eye(4))
    np.testing.assert_allclose(second.distances, first.distances * (1 if learned else unit), rtol=1e-6)
    assert second.predicted == first.predicted
    np.testing.assert_allclose(second.probabilities, first.probabilities, rtol=1e-5, atol=1e-5)


# other cells


def test_cells_of_zeros(ordinary: Result) -> None:
    """They are cells like others: the same as anywhere else, for a metric of differences."""
    moved, zeros = cohort(), cohort()
    some = np.arange(zeros.n_obs) % 4 == 0
    zeros.X[some] = 0.0
    moved.X = zeros.X + 17.0
    first, second = run(zeros), run(moved)
    np.testing.assert_allclose(first.distances, second.distances, rtol=1e-6)
    assert first.predicted == second.predicted
    assert not np.allclose(first.distances, ordinary.distances)


@pytest.mark.slow
@pytest.mark.parametrize("n_points", [None, 64, 5])
def test_duplicated_cells_are_no_news(n_points: int | None) -> None:
    """Of which some are exactly alike, so that many plans are optimal."""
    adata = cohort()
    adata.X = np.rint(adata.X / 50)  # few values in each gene
    twice = ad.concat([adata, adata], keys=["a", "b"], index_unique="-", merge="first")
    first, second = run(adata, n_points=n_points), run(twice, n_points=n_points)
    assert np.isfinite(second.distances).all()
    assert set(second.predicted) <= set(adata.obs["disease"])  # ties leave more than one best plan to learn from
    if n_points != 5:  # k-means starts elsewhere
        first, second = (
            gml.tl.patient_distances(data, metric=None, use_rep="X", n_points=n_points).obsp["gml_distances"]
            for data in (adata, twice)
        )
        np.testing.assert_allclose(second, first, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Probabilities are not calibrated", "ignore:Patients of different diseases")
@pytest.mark.parametrize("method", ["discriminant", "auto", gml.methods.Triplet(max_iter=5)], ids=str)
def test_one_cell_per_patient(method: Any) -> None:
    adata = cohort()
    adata = adata[adata.obs["mode"] == "own"]
    adata = adata[~adata.obs["patient"].duplicated().to_numpy()].copy()
    found = run(adata, method=method)
    reference = adata[~adata.obs["patient"].isin(QUERY)]
    z = reference[np.argsort(reference.obs["patient"].astype(str))].X @ found.components.T
    np.testing.assert_allclose(found.distances, np.linalg.norm(z[:, None] - z, axis=2), rtol=1e-6, atol=1e-9)


def test_two_patients_are_measured() -> None:
    adata = cohort()
    two = adata[adata.obs["patient"].isin(["P00", "P01"])].copy()
    whole = gml.tl.patient_distances(adata, metric=None, use_rep="X").obsp["gml_distances"]
    patients = gml.tl.patient_distances(two, metric=None, use_rep="X")
    np.testing.assert_array_equal(patients.obsp["gml_distances"], whole[:2, :2])
    assert patients.obsm["X_gml_mds"].shape == (2, 2)


def test_one_gene_has_a_closed_form() -> None:
    """In one dimension sorted cells are matched, whatever the metric but for its factor."""
    adata = cohort()[:, :1].copy()
    found = run(adata)
    factor = abs(found.components[0, 0])
    x = np.array([np.sort(adata[adata.obs["patient"] == name].X[:, 0]) for name in found.patients])
    np.testing.assert_allclose(found.distances, factor * np.abs(x[:, None] - x).mean(axis=2), rtol=1e-6)


def test_as_many_components_as_features(ordinary: Result) -> None:
    np.testing.assert_allclose(run(cohort(), n_components=4).distances, ordinary.distances, rtol=1e-6)
    found = run(cohort(), method=gml.methods.Triplet(max_iter=5), n_components=4)
    assert np.linalg.matrix_rank(found.components) == 4
    assert found.predicted == ordinary.predicted


def test_more_points_than_cells(ordinary: Result) -> None:
    np.testing.assert_array_equal(run(cohort(), n_points=10_000).distances, ordinary.distances)


def test_equal_cells_are_at_no_distance() -> None:
    adata = cohort()
    adata.X = np.full(adata.shape, 3.0)
    assert not gml.tl.patient_distances(adata, metric=None, use_rep="X").obsp["gml_distances"].any()


# names


@pytest.mark.filterwarnings("ignore:.* names are not unique")
def test_names_that_are_repeated() -> None:
    """Cells and, where no metric looks for them, genes need no names of their own."""
    adata, other = cohort(), cohort()
    other.obs_names, other.var_names = ["cell"] * other.n_obs, ["gene"] * other.n_vars
    first, second = (gml.tl.patient_distances(each, metric=None, use_rep="X") for each in (adata, other))
    np.testing.assert_array_equal(first.obsp["gml_distances"], second.obsp["gml_distances"])


def test_colours_that_are_none() -> None:
    adata = cohort()
    adata.uns |= {"disease_colors": 3, "patient_colors": ["red"] * 9}
    assert gml.tl.patient_distances(adata, metric=None, use_rep="X").uns.keys() == {"gml", "patient_colors"}


def renamed(column: str, names: list[Any], kind: str) -> Edit:
    """Other names, in their old order, as objects or as categories of that order with unused ones."""

    def edit(adata: AnnData) -> None:
        old = adata.obs[column].astype(str)
        new = dict(zip(sorted(old.unique()), names, strict=True))
        values = [new[name] for name in old]
        if kind == "objects":
            adata.obs[column] = pd.Series(values, index=adata.obs_names, dtype=object)
        else:
            unused = ["never"] if isinstance(names[0], str) else []
            categories = [*unused, *reversed(names)]
            adata.obs[column] = pd.Categorical(values, categories=categories, ordered=kind == "ordered")

    return edit


KINDS = pytest.mark.parametrize(
    "kind", ["objects", pytest.param("categories", marks=SLOW), pytest.param("ordered", marks=SLOW)]
)
DISEASES: dict[str, list[Any]] = {
    "text": ["a", "b", "c"],
    "integers": [1, 5, 10],
    "floats": [0.5, 1.5, 2.5],
    "slashes": ["a/b", "a/c", "a_b"],
    "unicode": ["Krebs – früh", "健康", "β-Thalassämie"],
    "an empty name": ["", "case", "control"],
    "spaces": [" ", "  ", "   "],
    "names of other types": ["None", "True", "nan"],
}


@KINDS
@pytest.mark.parametrize("names", DISEASES.values(), ids=DISEASES)
def test_names_of_diseases(names: list[Any], kind: str, ordinary: Result) -> None:
    adata = cohort()
    old = sorted(adata.obs["disease"].astype(str).unique())
    renamed("disease", names, kind)(adata)
    found = run(adata)
    np.testing.assert_allclose(found.distances, ordinary.distances, rtol=1e-6)
    new = dict(zip(old, map(str, names), strict=True))
    assert found.predicted == [new[name] for name in ordinary.predicted]


def test_boolean_diseases() -> None:
    adata = cohort()
    adata = adata[adata.obs["disease"] != "class_3"].copy()
    text = run(adata)
    adata.obs["disease"] = (adata.obs["disease"] == "class_2").to_numpy()
    found = run(adata)
    np.testing.assert_allclose(found.distances, text.distances, rtol=1e-6)
    assert found.predicted == [str(name == "class_2") for name in text.predicted]


PATIENTS: dict[str, list[Any]] = {
    "integers": list(range(9)),
    "floats": [i / 2 for i in range(9)],
    "slashes": [f"site/{i}" for i in range(9)],
    "unicode": [f"Patiënt № {i}" for i in range(9)],
    "an empty name": ["", *"abcdefgh"],
}


@KINDS
@pytest.mark.parametrize("names", PATIENTS.values(), ids=PATIENTS)
def test_names_of_patients(names: list[Any], kind: str, ordinary: Result) -> None:
    adata = cohort()
    rows = adata.obs["patient"].isin(QUERY).to_numpy()
    renamed("patient", names, kind)(adata)
    found = run(adata, rows=rows)
    assert found.patients == list(map(str, names[:6]))
    np.testing.assert_allclose(found.distances, ordinary.distances, rtol=1e-6)
    assert found.predicted == ordinary.predicted


def test_names_of_genes(ordinary: Result) -> None:
    adata = cohort()
    adata.var_names = ["", "MT-CO1/2", "γ", "1"]
    found = run(adata)
    np.testing.assert_array_equal(found.distances, ordinary.distances)
    assert found.predicted == ordinary.predicted
