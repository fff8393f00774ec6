"""What cannot be done is refused in words that help, and leaves everything as it was."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import gml
from gml.methods import Discriminant, Fixed, Triplet
from gml.solvers import Exact

Edit = Callable[[AnnData], object]
ALL = [f"P0{i}" for i in range(6)]


@pytest.fixture(scope="module")
def prepared() -> AnnData:
    """Six patients with PCs, a layer and metrics with and without a map to genes; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=12, n_genes=40, n_disease_genes=5)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=4)
    adata.layers["log"] = adata.X.copy()
    adata.obsm["latent"] = adata.obsm["X_pca"][:, :3].copy()
    gml.tl.learn_metric(adata, method="discriminant")
    gml.tl.learn_metric(adata, method="discriminant", use_rep="latent", key_added="blind")
    return adata


@pytest.fixture
def adata(prepared: AnnData) -> AnnData:
    return prepared.copy()


def contents(adata: AnnData) -> dict[str, Any]:
    """Every value by where it lies, copied."""
    found = {"X": adata.X, "obs": adata.obs, "var": adata.var, "is_view": adata.is_view}
    for slot in ("uns", "obsm", "varm", "layers", "obsp", "varp"):
        found |= {f"{slot}/{key}": value for key, value in getattr(adata, slot).items()}
    return deepcopy(found)


def same(one: Any, two: Any) -> bool:
    """Equal to the last bit."""
    if type(one) is not type(two):
        return False
    if isinstance(one, Mapping):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, pd.DataFrame):
        return one.index.equals(two.index) and one.dtypes.equals(two.dtypes) and one.equals(two)
    if sp.issparse(one):
        return one.shape == two.shape and all(
            same(getattr(one, part), getattr(two, part)) for part in ("data", "indices", "indptr")
        )
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    return bool(one == two)


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Where something was added, taken away or changed."""
    both = before.keys() & after.keys()
    return (before.keys() ^ after.keys()) | {key for key in both if not same(before[key], after[key])}


# changes of the input


def nothing(adata: AnnData) -> None:
    """Leave it as it is."""


def of(adata: AnnData, *patients: str) -> np.ndarray:
    return adata.obs["patient"].isin(patients).to_numpy()


def set_obs(column: str, value: object, *patients: str, rows: slice | None = None) -> Edit:
    """Another value in a column, for some patients or rows."""

    def edit(adata: AnnData) -> None:
        values = adata.obs[column].astype(object).to_numpy(copy=True)
        values[of(adata, *patients) if rows is None else rows] = value
        adata.obs[column] = values

    return edit


def categories(change: Edit) -> Edit:
    """The change, and then the disease as a categorical column."""

    def edit(adata: AnnData) -> None:
        change(adata)
        adata.obs["disease"] = adata.obs["disease"].astype("category")

    return edit


def numbers(*values: float) -> Edit:
    """These in turn as the disease of the patients."""

    def edit(adata: AnnData) -> None:
        number = adata.obs["patient"].astype(str).str[1:].astype(int)
        adata.obs["disease"] = np.resize(values, 100)[number]

    return edit


def set_genes(value: float, dense: bool = True) -> Edit:
    def edit(adata: AnnData) -> None:
        x = adata.X.toarray()
        x[np.flatnonzero(of(adata, "P02"))[1], 7] = value
        adata.X = x if dense else sp.csr_matrix(x)

    return edit


def set_pca(value: float) -> Edit:
    def edit(adata: AnnData) -> None:
        adata.obsm["X_pca"][np.flatnonzero(of(adata, "P04"))[:2], 1] = value

    return edit


def keep(*patients: str) -> Edit:
    def edit(adata: AnnData) -> None:
        adata._inplace_subset_obs(of(adata, *patients))

    return edit


def drop(slot: str, key: str) -> Edit:
    def edit(adata: AnnData) -> None:
        del getattr(adata, slot)[key]

    return edit


def strings_in_obsm(adata: AnnData) -> None:
    adata.obsm["X_pca"] = pd.DataFrame({"a": "x", "b": 1.0}, index=adata.obs_names)


def no_columns_in_obsm(adata: AnnData) -> None:
    adata.obsm["X_pca"] = np.empty((adata.n_obs, 0))


def complex_genes(adata: AnnData) -> None:
    adata.X = adata.X.toarray().astype(np.complex128)


def no_genes(adata: AnnData) -> None:
    adata._inplace_subset_var(np.zeros(adata.n_vars, dtype=bool))


def equal_cells(adata: AnnData) -> None:
    adata.obsm["X_pca"] = np.ones((adata.n_obs, 4))
    del adata.varm["PCs"]


def repeated_genes(adata: AnnData) -> None:
    adata.var_names = ["gene_002", "gene_002", *adata.var_names[2:]]


def no_x(adata: AnnData) -> None:
    adata.X = None


def rename_genes(adata: AnnData) -> None:
    adata.var_names = [f"ENSG{i}" for i in range(adata.n_vars)]


def learn(**kwargs: Any) -> Edit:
    return lambda adata: gml.tl.learn_metric(adata, **{"method": "discriminant"} | kwargs)


def measure(**kwargs: Any) -> Edit:
    return lambda adata: gml.tl.patient_distances(adata, **kwargs)


def read(**kwargs: Any) -> Edit:
    return lambda adata: gml.get.metric(adata, **kwargs)


def rank(**kwargs: Any) -> Edit:
    return lambda adata: gml.tl.rank_genes(adata, **kwargs)


def validate(**kwargs: Any) -> Edit:
    return lambda adata: gml.tl.cross_validate(adata, **{"metrics": ["euclidean"]} | kwargs)


def to_query(**kwargs: Any) -> Edit:
    """Predict the first two patients from the others."""
    return lambda adata: gml.tl.predict(
        adata[of(adata, "P00", "P01")].copy(), adata[~of(adata, "P00", "P01")].copy(), **kwargs
    )


def against(change: Edit, **kwargs: Any) -> Edit:
    """Distances to a reference that was changed."""

    def call(adata: AnnData) -> None:
        reference = adata.copy()
        change(reference)
        gml.tl.patient_distances(adata, reference=reference, **kwargs)

    return call


def transform(change: Edit, key: str = "gml") -> Edit:
    """Apply the metric to cells that were changed."""

    def call(adata: AnnData) -> None:
        query = adata.copy()
        change(query)
        before = contents(query)
        try:
            gml.tl.transform(query, gml.get.metric(adata, key=key))
        finally:
            assert not changed(before, contents(query))

    return call


def on_patients(function: Callable[..., object], change: Edit = nothing, n: int = 6, **kwargs: Any) -> Edit:
    """The function, on Euclidean distances between the first patients, after they were changed."""

    def call(adata: AnnData) -> None:
        patients = gml.tl.patient_distances(adata[of(adata, *ALL[:n])], metric=None)
        change(patients)
        before = contents(patients)
        try:
            function(patients, **kwargs)
        finally:
            assert not changed(before, contents(patients))

    return call


def neighbors(n: int, **kwargs: Any) -> Edit:
    return on_patients(gml.pp.neighbors, n=n, **kwargs)


def score(change: Edit = nothing, **kwargs: Any) -> Edit:
    """Score patients that were changed, between typical ones of the cells."""

    def call(adata: AnnData) -> None:
        on_patients(lambda patients: gml.tl.score_patients(adata, patients, **kwargs), change)(adata)

    return call


def apply(function: Callable[..., object], *args: Any, **kwargs: Any) -> Edit:
    """The function of the AnnData."""
    return lambda adata: function(adata, *args, **kwargs)


def alone(function: Callable[..., object], *args: Any, **kwargs: Any) -> Edit:
    """The function of something else."""
    return lambda _: function(*args, **kwargs)


def stored(path: str, change: Callable[[Any], Any]) -> Edit:
    """Another value in ``uns["gml"]``, by its path."""

    def edit(adata: AnnData) -> None:
        run = adata.uns["gml"] = deepcopy(dict(adata.uns["gml"]))
        *parents, last = path.split("/")
        for parent in parents:
            run = run[parent]
        run[last] = change(run.get(last))

    return edit


def lose(path: str) -> Edit:
    """Delete a value in ``uns["gml"]``."""

    def edit(adata: AnnData) -> None:
        stored(path, lambda value: value)(adata)  # copies what is changed
        run = adata.uns["gml"]
        *parents, last = path.split("/")
        for parent in parents:
            run = run[parent]
        del run[last]

    return edit


def with_nan(values: np.ndarray) -> np.ndarray:
    values = np.array(values, dtype=np.float64)
    values.flat[0] = np.nan
    return values


def as_slot(slot: str, key: str, change: Callable[[Any], Any]) -> Edit:
    """Another array in ``obsm``, ``varm`` or ``obsp``."""

    def edit(adata: AnnData) -> None:
        mapping = getattr(adata, slot)
        mapping[key] = change(mapping[key])

    return edit


def distance(value: float, *pairs: tuple[int, int]) -> Edit:
    """Another distance between some patients."""

    def change(matrix: np.ndarray) -> np.ndarray:
        matrix = matrix.copy()
        for pair in pairs:
            matrix[pair] = value
        return matrix

    return as_slot("obsp", "gml_distances", change)


def joined(mark: object) -> Edit:
    """Two features of modalities side by side, and what is said of them."""
    return lambda a: (a.obsm.update(X_joint=np.ones((a.n_obs, 2))), a.uns.update(gml_joined=mark))


def as_genes(change: Callable[[np.ndarray], object]) -> Edit:
    def edit(adata: AnnData) -> None:
        adata.X = change(adata.X.toarray())

    return edit


def mark_as_sketch(weight: object, n_cells: object) -> Edit:
    def edit(adata: AnnData) -> None:
        adata.uns["gml_sketch"] = {"format": 1, "params": {}}
        adata.obs["weight"], adata.obs["n_cells"] = [weight] * adata.n_obs, [n_cells] * adata.n_obs

    return edit


def lists_of_names(adata: AnnData) -> None:
    adata.obs["patient"] = [[name] for name in adata.obs["patient"]]


RANKED = pd.DataFrame({"importance": np.arange(40.0)}, index=[f"gene_{i:03}" for i in range(40)])
SETS = {"set": RANKED.index[:8].tolist()}
SCORES = pd.DataFrame(
    {"split": [0, 1], "metric": "m", "readout": "knn", "n_train": 4, "n_test": 2, "auroc": [0.5, 0.6]}
)
FLOW = pd.DataFrame({"source": ["T"], "target": ["B"], "mass": [1.0], "part": [1.0]})

Row = tuple[Edit, Edit, type[Exception], list[str]]

#: what is wrong: how the input is changed, what is called, what is raised, words that must be in the message
BAD: dict[str, Row] = {
    # columns
    "no AnnData": (nothing, lambda a: gml.tl.learn_metric(a.to_df()), TypeError, ["`adata`", "DataFrame"]),
    "no patients": (nothing, learn(patient_key="pat"), KeyError, ["'pat'", "'patient', 'disease'", "`patient_key`"]),
    "no diseases": (drop("obs", "disease"), learn(), KeyError, ["'disease'", "'patient', 'donor'", "`disease_key`"]),
    "key is a number": (nothing, learn(patient_key=3), TypeError, ["strings", "3"]),
    "cells of no patient": (
        set_obs("patient", np.nan, rows=slice(3)), learn(), ValueError, ["3 of ", "NaN", "adata.obs['patient']"],
    ),
    "nobody has a disease": (set_obs("disease", np.nan, *ALL), learn(), ValueError, ["two diseases", "metric=None"]),
    "one disease is left": (
        categories(set_obs("disease", None, "P01", "P03", "P05")), learn(), ValueError,
        ["two diseases", "'disease_1': 3"],
    ),
    "one disease is left, as objects": (
        set_obs("disease", None, "P01", "P03", "P05"), learn(), ValueError, ["two diseases", "'disease_1': 3"],
    ),
    "cells of no donor": (
        set_obs("donor", np.nan, "P01", "P04"), learn(donor_key="donor"), ValueError,
        ["2 patients have no donor", "NaN", "adata.obs['donor']", "'P01'"],
    ),
    "patients of no batch": (
        set_obs("batch", None, "P02"), learn(batch_key="batch"), ValueError,
        ["1 patients have no batch", "adata.obs['batch']", "'P02'"],
    ),
    "batch of some cells": (
        set_obs("batch", "b9", rows=slice(2)), learn(batch_key="batch"), ValueError, ["'batch'", "'P00'", "'b9'"],
    ),
    "no such donors": (nothing, learn(donor_key="person"), KeyError, ["'person'", "'donor'", "`donor_key`"]),
    "no such batches": (nothing, learn(batch_key="run"), KeyError, ["'run'", "'batch'", "`batch_key`"]),
    "batch key is a number": (nothing, learn(batch_key=3), TypeError, ["strings", "3"]),
    "disease of some cells": (
        set_obs("disease", np.nan, rows=slice(2)), learn(), ValueError, ["'disease'", "'P00'", "NaN", "'disease_1'"],
    ),
    "two diseases in a patient": (
        set_obs("disease", "flu", rows=slice(2)), learn(), ValueError,
        ["adata.obs['disease']", "constant", "1 of 6", "'P00'", "'disease_1', 'flu'", "`patient_key`"],
    ),
    "two diseases, measured": (
        set_obs("disease", "flu", rows=slice(2)), measure(metric=None), ValueError, ["'P00'", "'flu'"],
    ),
    "one disease": (
        keep("P00", "P02", "P04"), learn(), ValueError, ["two diseases", "'disease_1': 3", "metric=None"],
    ),
    "one patient per disease": (
        keep("P00", "P01"), learn(), ValueError, ["'disease_1': 1", "'disease_2': 1", "two patients", "metric=None"],
    ),
    "one patient": (keep("P00"), learn(), ValueError, ["'disease_1': 1"]),
    "1 and '1'": (
        lambda a: (set_obs("patient", 1, "P00")(a), set_obs("patient", "1", "P01")(a)), learn(), ValueError,
        ["adata.obs['patient']", "'1'", "int and str", ".astype(str)"],
    ),
    "True and 'True'": (
        lambda a: (set_obs("disease", True, "P00")(a), set_obs("disease", "True", "P01")(a)), learn(), ValueError,
        ["adata.obs['disease']", "'True'", "bool and str"],
    ),
    # features
    "no cells": (keep(), learn(), ValueError, ["`adata`", "no cells"]),
    "no cells, measured": (keep(), measure(metric=None), ValueError, ["`adata`", "no cells"]),
    "no genes": (
        lambda a: (no_genes(a), drop("obsm", "X_pca")(a)), learn(), ValueError, ["no features", "X_pca"],
    ),
    "no columns": (no_columns_in_obsm, learn(), ValueError, ["adata.obsm['X_pca']", "no columns"]),
    "strings": (strings_in_obsm, learn(), ValueError, ["adata.obsm['X_pca']", "real numbers", "object"]),
    "complex numbers": (complex_genes, learn(use_rep="X"), ValueError, ["adata.X", "complex128"]),
    "NaN in genes": (
        set_genes(np.nan), learn(use_rep="X"), ValueError, ["1 of ", "'P02'", "NaN", "'gene_007'", "use_rep='X'"],
    ),
    "infinite genes": (
        set_genes(np.inf, dense=False), learn(use_rep="X"), ValueError, ["'P02'", "infinite", "'gene_007'"],
    ),
    "NaN in PCs": (set_pca(np.nan), learn(), ValueError, ["2 of ", "'P04'", "'X_pca_2'", "use_rep='X_pca'"]),
    "infinite PCs, measured": (set_pca(-np.inf), measure(metric=None), ValueError, ["'P04'", "'X_pca_2'"]),
    "infinite PCs, validated": (set_pca(np.inf), validate(), ValueError, ["'P04'", "'X_pca_2'"]),
    "no such representation": (
        nothing, learn(use_rep="X_scVI"), KeyError, ["'X_scVI'", "'X_pca', 'latent'", "use_rep='X'"],
    ),
    "no such layer": (nothing, learn(layer="counts"), KeyError, ["adata.layers", "'counts'", "'log'"]),
    "layer of a representation": (
        nothing, learn(layer="log", use_rep="X_pca"), ValueError, ["`layer`", "use_rep='X_pca'", "Drop one"],
    ),
    "representation is a number": (nothing, learn(use_rep=1), TypeError, ["`use_rep`", "1"]),
    "no X": (no_x, learn(use_rep="X"), ValueError, ["adata.X is None", "`use_rep`"]),
    "equal cells, discriminant": (equal_cells, learn(), ValueError, ["same cells", "nothing to learn"]),
    "equal cells, triplet": (equal_cells, learn(method="triplet"), ValueError, ["same cells", "nothing to learn"]),
    "repeated genes": (
        repeated_genes, learn(use_rep="X"), ValueError, ["adata.var_names", "'gene_002'", "var_names_make_unique"],
    ),
    # settings
    "too many components": (nothing, learn(n_components=5), ValueError, ["`n_components`", "features, 4", "got 5"]),
    "no components": (nothing, learn(n_components=0), ValueError, ["`n_components`", "at least 1", "got 0"]),
    "half a component": (nothing, learn(n_components=2.5), TypeError, ["`n_components`", "integer", "got 2.5"]),
    "components are bool": (nothing, learn(n_components=True), TypeError, ["`n_components`", "got True"]),
    "no points": (nothing, learn(n_points=0), ValueError, ["`n_points`", "got 0"]),
    "points are text": (nothing, measure(n_points="64"), TypeError, ["`n_points`", "'64'"]),
    "no workers": (nothing, learn(n_jobs=0), ValueError, ["`n_jobs`", "0", "-1"]),
    "seed is text": (nothing, learn(rng="a"), TypeError, ["`rng`", "'a'"]),
    "negative seed": (nothing, measure(rng=-1), ValueError, ["`rng`", "-1"]),
    "old random state": (nothing, learn(rng=np.random.RandomState(0)), TypeError, ["`rng`", "numpy Generator"]),
    "slash in a key": (nothing, learn(key_added="a/b"), ValueError, ["`key_added`", "'a/b'", "'/'"]),
    "empty key": (nothing, measure(key_added=""), ValueError, ["`key_added`", "''"]),
    "key is no text": (nothing, learn(key_added=None), TypeError, ["`key_added`", "None"]),
    "key overwrites PCs": (nothing, learn(key_added="pca"), ValueError, ["'pca'", "adata.obsm['X_pca']"]),
    "key overwrites loadings": (nothing, learn(key_added="PCs"), ValueError, ["'PCs'", "adata.varm['PCs']"]),
    "unknown method": (
        nothing, learn(method="tripelt"), ValueError,
        ["`method`", "'auto', 'discriminant', 'triplet', 'euclidean'", "'tripelt'"],
    ),
    "method is a class": (nothing, learn(method=Triplet), TypeError, ["`method`", "Triplet"]),
    "fixed metric that is no map": (
        nothing, learn(method=Fixed("cityblock")), ValueError,
        ["`method`", "Euclidean", "'cityblock'", "gml.tl.patient_distances"],
    ),
    "components of the Euclidean metric": (
        nothing, learn(method="euclidean", n_components=2), ValueError, ["`n_components`", "None", "got 2"],
    ),
    "names in an order": (
        nothing, learn(method=Triplet(target="ordered")), ValueError,
        ["target='ordered'", "ordered categories", "names"],
    ),
    "names in an order, discriminant": (
        nothing, learn(method=Discriminant(target="ordered")), ValueError, ["target='ordered'", "ordered categories"],
    ),
    "one value in order": (
        numbers(2.5, 2.5), learn(method=Discriminant(target="ordered")), ValueError, ["two different values", "2.5"],
    ),
    "unknown solver": (nothing, learn(solver="emd"), ValueError, ["`solver`", "'exact'", "'emd'"]),
    "misspelt keyword": (nothing, learn(disease_kye="disease"), TypeError, ["disease_kye"]),
    "positional argument": (nothing, lambda a: gml.tl.learn_metric(a, "patient"), TypeError, ["positional"]),
    "unknown fixed metric": (nothing, lambda _: Fixed("manhattan"), ValueError, ["'manhattan'", "'cityblock'"]),
    "negative margin": (nothing, lambda _: Triplet(margin=-1), ValueError, ["`margin`", "above 0", "-1"]),
    "no margin": (nothing, lambda _: Triplet(margin=0), ValueError, ["`margin`", "above 0", "got 0"]),
    "margin is NaN": (nothing, lambda _: Triplet(margin=float("nan")), ValueError, ["`margin`", "finite", "nan"]),
    "margin is text": (nothing, lambda _: Triplet(margin="1"), TypeError, ["`margin`", "'1'"]),
    "negative penalty": (nothing, lambda _: Triplet(reg=-0.1), ValueError, ["`reg`", "at least 0", "-0.1"]),
    "unknown penalty": (nothing, lambda _: Triplet(penalty="l2"), ValueError, ["`penalty`", "'frobenius'", "'l2'"]),
    "no triplets": (nothing, lambda _: Triplet(n_triplets=0), ValueError, ["`n_triplets`", "got 0"]),
    "drawn triplets in order": (
        nothing, lambda _: Triplet(target="ordered", n_triplets=3), ValueError, ["`n_triplets`", "'ordered'", "got 3"],
    ),
    "unknown target": (nothing, lambda _: Triplet(target="age"), ValueError, ["`target`", "'ordered'", "'age'"]),
    "target is unknown to both": (nothing, lambda _: Discriminant(target="age"), ValueError, ["`target`", "'age'"]),
    "early stopping is a number": (
        nothing, lambda _: Triplet(early_stopping=3), ValueError, ["`early_stopping`", "True, False", "got 3"],
    ),
    "no passes": (nothing, lambda _: Triplet(max_iter=0), ValueError, ["`max_iter`", "got 0"]),
    "passes are a float": (nothing, lambda _: Triplet(max_iter=3.0), TypeError, ["`max_iter`", "3.0"]),
    "infinite step": (nothing, lambda _: Triplet(learning_rate=np.inf), ValueError, ["`learning_rate`", "inf"]),
    "unknown start": (nothing, lambda _: Triplet(init="pca"), ValueError, ["`init`", "'discriminant'", "'pca'"]),
    "power of a method": (nothing, lambda _: Triplet(power=3), ValueError, ["`power`", "1, 2", "got 3"]),
    "setting of another method": (nothing, lambda _: Discriminant(margin=1.0), TypeError, ["margin"]),
    "too much shrinkage": (
        nothing, lambda _: Discriminant(shrinkage=1.5), ValueError, ["`shrinkage`", "at most 1", "1.5"],
    ),
    "shrinkage is NaN": (nothing, lambda _: Discriminant(shrinkage=np.nan), ValueError, ["`shrinkage`", "nan"]),
    "shrinkage is a word": (nothing, lambda _: Discriminant(shrinkage="none"), TypeError, ["`shrinkage`", "'none'"]),
    "negative weight": (
        nothing, lambda _: Discriminant(whitening=-1.0), ValueError, ["`whitening`", "at least 0", "-1.0"],
    ),
    "weight is bool": (nothing, lambda _: Discriminant(euclidean=True), TypeError, ["`euclidean`", "True"]),
    "nothing to sum": (
        nothing, lambda _: Discriminant(directions=0.0), ValueError,
        ["`directions`", "`whitening`", "`euclidean`", "above 0"],
    ),
    "balance is a number": (nothing, lambda _: Discriminant(balanced=1), ValueError, ["`balanced`", "True, False"]),
    "no rounds": (nothing, lambda _: Discriminant(rounds=0), ValueError, ["`rounds`", "got 0"]),
    "no pivots": (nothing, lambda _: Exact(max_iter=0), ValueError, ["`max_iter`", "got 0"]),
    # measuring
    "no metric": (
        drop("uns", "gml"), measure(), KeyError,
        ["adata.uns", "'gml'", "'blind'", "gml.tl.learn_metric", "metric=None"],
    ),
    "not a metric": (nothing, measure(metric="pca"), ValueError, ["adata.uns['pca']", "gml.tl.learn_metric"]),
    "metric is a number": (nothing, measure(metric=1), TypeError, ["`metric`", "GroundMetric", "got 1"]),
    "power 3": (nothing, measure(power=3), ValueError, ["`power`", "1, 2", "got 3"]),
    "features of another metric": (nothing, measure(use_rep="X"), ValueError, ["use_rep='X'", "'gml'", "'X_pca'"]),
    "layer of another metric": (nothing, measure(layer="log"), ValueError, ["layer='log'", "'gml'"]),
    "solver gives up": (nothing, measure(solver=Exact(max_iter=1)), ValueError, ["max_iter=1", "n_points"]),
    "reference is no AnnData": (nothing, measure(reference="gml"), TypeError, ["`reference`", "str"]),
    "reference is empty": (nothing, against(keep()), ValueError, ["`reference`", "no cells"]),
    "NaN in the reference": (nothing, against(set_pca(np.nan)), ValueError, ["'P04'", "'X_pca_2'"]),
    "reference has other PCs": (
        nothing, against(lambda a: a.obsm.update(X_pca=np.ones((a.n_obs, 2))), metric=None), ValueError,
        ["'X_pca'", "4 columns in `adata` and 2 in `reference`", "one embedding"],
    ),
    "reference has no PCs": (
        nothing, against(drop("obsm", "X_pca"), metric=None), ValueError, ["'X_pca'", "'X'", "`use_rep`"],
    ),
    "reference has other genes": (
        nothing, against(rename_genes, metric=None, use_rep="X"), ValueError, ["40 genes of `reference`", "'ENSG0'"],
    ),
    "width of the metric": (
        lambda a: a.obsm.update(X_pca=np.ones((a.n_obs, 2))), measure(), ValueError,
        ["adata.obsm['X_pca'] has 2 columns", "'gml' needs 4"],
    ),
    # another AnnData
    "metric is a key": (
        nothing, lambda a: gml.tl.transform(a, "gml"), TypeError, ["`metric`", "gml.get.metric", "str"],
    ),
    "genes of the metric are missing": (
        nothing, transform(rename_genes), ValueError, ["40 of the 40 genes", "'gene_0", "half"],
    ),
    "genes are repeated": (nothing, transform(repeated_genes), ValueError, ["var_names", "'gene_002'", "make_unique"]),
    "NaN in new cells": (nothing, transform(set_genes(np.nan)), ValueError, ["NaN", "`adata`"]),
    "no genes in new cells": (nothing, transform(no_x), ValueError, ["adata.X is None"]),
    "nobody votes": (nothing, to_query(n_neighbors=0), ValueError, ["`n_neighbors`", "got 0"]),
    "reference without a metric": (drop("uns", "gml"), to_query(), KeyError, ["'gml'", "gml.tl.learn_metric"]),
    "reference without diseases": (
        drop("obs", "disease"), to_query(), ValueError, ["`reference`", "disease", "reference.obs['disease']"],
    ),
    "reference with unknown diseases": (
        set_obs("disease", np.nan, *ALL), to_query(), ValueError, ["No patient of `reference`", "'disease'"],
    ),
    "no such diseases": (nothing, to_query(disease_key="outcome"), KeyError, ["'outcome'", "'disease'"]),
    "query is no AnnData": (nothing, lambda a: gml.tl.predict(None, a), TypeError, ["`query`", "NoneType"]),
    # reading
    "no metric to read": (nothing, read(key="x"), KeyError, ["'x'", "'gml'", "gml.tl.learn_metric"]),
    "no metric to rank by": (nothing, rank(key="x"), KeyError, ["'x'", "gml.tl.learn_metric"]),
    "no way to genes": (
        nothing, rank(key="blind"), ValueError, ["'blind'", "'latent'", "use_rep='X'"],
    ),
    "one disease to rank": (keep("P00", "P02"), rank(), ValueError, ["'disease_1': 2"]),
    # validating
    "metrics are text": (nothing, validate(metrics="discriminant"), TypeError, ["`metrics`", "list", "'discriminant'"]),
    "no metrics": (nothing, validate(metrics=[]), TypeError, ["`metrics`"]),
    "unknown metric": (nothing, validate(metrics=["cosine"]), ValueError, ["`metrics`", "'discriminant'", "'cosine'"]),
    "no splits": (nothing, validate(splits=0), ValueError, ["`splits`", "got 0"]),
    "splits are a float": (nothing, validate(splits=2.5), TypeError, ["`splits`", "2.5"]),
    "empty splits": (nothing, validate(splits=[]), ValueError, ["`splits` is empty"]),
    "split of strangers": (
        nothing, validate(splits=[(["P00", "P01", "X9"], ["P02"])]), ValueError, ["Split 0", "training", "'X9'"],
    ),
    "split without test": (nothing, validate(splits=[(["P00", "P01", "P02"], [])]), ValueError, ["Split 0", "test"]),
    "split shares a patient": (
        nothing, validate(splits=[(["P00", "P01", "P02"], ["P02", "P03"])]), ValueError, ["Split 0", "same patient"],
    ),
    "split without a class": (
        nothing, validate(splits=[(["P00", "P02"], ["P01"])]), ValueError, ["split 0", "'disease_1': 2"],
    ),
    "no donors": (nothing, validate(donor_key="person"), KeyError, ["'person'", "'donor'"]),
    "two donors in a patient": (
        set_obs("donor", "D9", rows=slice(1)), validate(donor_key="donor"), ValueError, ["'donor'", "'P00'", "'D9'"],
    ),
    "nobody to hold out": (
        keep("P00", "P01", "P02"), validate(donor_key="disease", splits=1), ValueError,
        ["every disease has only one patient (or donor)"],
    ),
    # a metric that was changed
    "components are NaN": (
        stored("components", with_nan), measure(), ValueError,
        ["adata.uns['gml']", "damaged or edited", "`components`", "NaN", "gml.tl.learn_metric"],
    ),
    "components are flat": (stored("components", np.ravel), read(), ValueError, ["adata.uns['gml']", "(k, d)", "(8,)"]),
    "components are text": (stored("components", lambda _: "L"), rank(), ValueError, ["`components`", "real numbers"]),
    "components are complex": (
        stored("components", lambda x: x * 1j), read(), ValueError, ["`components`", "real numbers", "complex128"],
    ),
    "components of fewer features": (
        stored("components", lambda x: x[:, :2]), measure(), ValueError, ["`feature_names`", "2 columns", "got 4"],
    ),
    "components are gone": (lose("components"), measure(), ValueError, ["components missing", "gml.tl.learn_metric"]),
    "parameters are gone": (lose("params"), read(), ValueError, ["params missing", "gml.tl.learn_metric"]),
    "parameters are text": (stored("params", str), measure(), ValueError, ["adata.uns['gml']", "damaged or edited"]),
    "parameters are empty": (stored("params", lambda _: {}), measure(), ValueError, ["'gml'", "'use_rep'"]),
    "other representation": (
        stored("params/use_rep", lambda _: "latent"), measure(), ValueError, ["'latent'", "3 columns", "needs 4"],
    ),
    "representation that is gone": (
        stored("params/use_rep", lambda _: "X_scVI"), measure(), KeyError, ["'X_scVI'", "'X_pca', 'latent'"],
    ),
    "newer format": (
        stored("format", lambda _: 2), measure(),
        ValueError, ["adata.uns['gml']", "format 2", "up to 1", "update scgml"],
    ),
    "format is text": (stored("format", lambda _: "new"), read(), ValueError, ["adata.uns['gml']", "'new'"]),
    "map of other genes": (
        stored("gene_map/names", lambda names: names[:5]), transform(nothing), ValueError,
        ["adata.uns['gml']", "`means`", "(5,)", "(40,)"],
    ),
    "map of other features": (
        stored("gene_map/basis", lambda basis: basis[:, :2]), rank(), ValueError, ["`offset`", "(2,)", "(4,)"],
    ),
    "map of no genes": (lose("gene_map/names"), read(), ValueError, ["adata.uns['gml']", "`gene_map` has no 'names'"]),
    "map is NaN": (stored("gene_map/basis", with_nan), read(), ValueError, ["`basis`", "NaN"]),
    "metric of other genes": (
        stored("gene_map/names", lambda names: np.array([f"g{i}" for i in range(len(names))])),
        transform(nothing), ValueError, ["40 of the 40 genes", "half"],
    ),
    "metric is an array": (lambda a: a.uns.update(gml=np.ones(3)), measure(), ValueError, ["ndarray", "not a result"]),
    "embedding of another metric": (
        as_slot("obsm", "X_gml", lambda x: x[:, ::-1]), measure(),
        ValueError, ["X_gml", "no longer", "gml.tl.transform"],
    ),
    "embedding is text": (
        as_slot("obsm", "X_gml", lambda x: x.astype(str)), measure(), ValueError, ["X_gml", "real numbers"],
    ),
    "loadings are text": (
        as_slot("varm", "gml", lambda x: x.astype(str)), apply(gml.get.loadings), ValueError, ["varm['gml']", "<U"],
    ),
    "loadings have three axes": (
        as_slot("varm", "gml", lambda x: np.stack([x, x], axis=2)), apply(gml.get.loadings), ValueError,
        ["varm['gml']", "rows and columns", "(40, 2, 2)"],
    ),
    # arrays
    "masked genes": (
        as_genes(lambda x: np.ma.masked_greater(x, 1)), learn(use_rep="X"), ValueError, ["adata.X", "masked", "filled"],
    ),
    "masked PCs": (
        as_slot("obsm", "X_pca", lambda x: np.ma.masked_greater(x, 1)), measure(metric=None), ValueError,
        ["X_pca", "masked"],
    ),
    "complex PCs": (as_slot("obsm", "X_pca", lambda x: x * 1j), learn(), ValueError, ["X_pca", "complex"]),
    "objects as genes": (
        as_genes(lambda x: x.astype(object)), learn(use_rep="X"), ValueError, ["adata.X", "real numbers", "object"],
    ),
    "PCs of three axes": (
        as_slot("obsm", "X_pca", lambda x: np.stack([x, x], axis=2)), learn(), ValueError,
        ["X_pca", "rows and columns", "(74, 4, 2)"],
    ),
    "numbers and text": (
        lambda a: a.obsm.update(X_pca=pd.DataFrame({"a": [1, *"x" * (a.n_obs - 1)]}, index=a.obs_names)), learn(),
        ValueError, ["X_pca", "real numbers"],
    ),
    "nullable numbers that are missing": (
        lambda a: a.obsm.update(X_pca=pd.DataFrame({"a": [pd.NA, *[1] * (a.n_obs - 1)]}, a.obs_names, dtype="Int64")),
        learn(), ValueError, ["'P00'", "NaN", "'a'"],
    ),
    "mark of modalities is text": (joined("rna"), learn(), ValueError, ["'gml_joined'", "(2,)", "'rna'", "del adata"]),
    "mark of modalities is empty": (joined({}), measure(metric=None), ValueError, ["'gml_joined'", "`names`", "{}"]),
    "mark of other modalities": (
        joined({"names": np.array(["a", "b", "c"]), "modality": np.array([0, 0, 1])}), learn(), ValueError,
        ["'gml_joined'", "'X_joint'", "(2,)", "'c'"],
    ),
    "modalities without numbers": (
        joined({"names": np.array(["a", "b"]), "modality": np.array(["rna", "prot"])}), learn(), ValueError,
        ["'gml_joined'", "`modality`", "'prot'"],
    ),
    "cells too far": (
        as_slot("obsm", "X_pca", lambda x: x.astype(np.float64) * 1e200), learn(), ValueError,
        ["'P00'", "above 1e+150", "'X_pca_1'"],
    ),
    "cells too close": (
        as_slot("obsm", "latent", lambda x: x.astype(np.float64) * 1e-310), learn(use_rep="latent"), ValueError,
        ["e-310 at most", "below 1e-150"],
    ),
    "cells too close, cross-validated": (
        as_slot("obsm", "latent", lambda x: x.astype(np.float64) * 1e-200),
        lambda adata: gml.tl.cross_validate(adata, use_rep="latent", metrics=["euclidean"], splits=2),
        ValueError, ["e-200 at most", "below 1e-150"],
    ),
    "cells too close, tested": (
        as_slot("obsm", "latent", lambda x: x.astype(np.float64) * 1e-200),
        lambda adata: gml.tl.permutation_test(adata, use_rep="latent", method="euclidean", n_permutations=2),
        ValueError, ["e-200 at most", "below 1e-150"],
    ),
    "cells too far, measured": (
        as_slot("obsm", "X_pca", lambda x: x.astype(np.float64) * 1e200), measure(), ValueError,
        ["'P00'", "above 1e+150", "'X_pca_1'"],
    ),
    "cells too close, measured": (
        as_slot("obsm", "latent", lambda x: x.astype(np.float64) * 1e-200), measure(metric=None, use_rep="latent"),
        ValueError, ["e-200 at most", "below 1e-150", "multiply"],
    ),
    "cells too close to be told apart": (
        as_slot("obsm", "latent", lambda x: x.astype(np.float64) * 1e-310),
        against(nothing, metric=None, use_rep="latent"), ValueError, ["e-310 at most", "below 1e-150"],
    ),
    "complex PCs, measured": (
        as_slot("obsm", "X_pca", lambda x: x * 1j), measure(metric=None), ValueError, ["X_pca", "complex"],
    ),
    "masked genes, measured": (
        as_genes(lambda x: np.ma.masked_greater(x, 1)), measure(metric=None, use_rep="X"), ValueError,
        ["adata.X", "masked", "filled"],
    ),
    "genes of another metric": (
        lambda a: (learn(use_rep="X", key_added="genes")(a), rename_genes(a)), measure(metric="genes"), ValueError,
        ["40 of the 40 genes", "half"],
    ),
    "genes of a metric are repeated": (
        lambda a: (learn(use_rep="X", key_added="genes")(a), repeated_genes(a)), measure(metric="genes"), ValueError,
        ["adata.var_names", "'gene_002'", "make_unique"],
    ),
    "lists as patients": (lists_of_names, learn(), TypeError, ["adata.obs['patient']", "['P0", "list"]),
    "infinite severity": (
        numbers(1.0, np.inf), learn(method=Discriminant(target="ordered")), ValueError, ["ordered", "infinite"],
    ),
    "points without weights": (mark_as_sketch("x", 1), learn(), ValueError, ["'weight'", "above 0", "gml_sketch"]),
    "points of no cells": (mark_as_sketch(1.0, -1), measure(metric=None), ValueError, ["'n_cells'", "above 0"]),
    # patients
    "no distances": (nothing, gml.pp.neighbors, KeyError, ["'gml_distances'", "gml.tl.patient_distances"]),
    "no distances of that name": (nothing, neighbors(4, key="x"), KeyError, ["'x_distances'", "'gml_distances'"]),
    "one neighbour": (nothing, neighbors(4, n_neighbors=1), ValueError, ["`n_neighbors`", "at least 2", "got 1"]),
    "two patients": (nothing, neighbors(2), ValueError, ["three patients", "got 2"]),
    "seed of a graph": (nothing, neighbors(6, rng="a"), TypeError, ["`rng`", "'a'"]),
    "graph to a reference": (
        nothing, lambda a: gml.pp.neighbors(gml.tl.patient_distances(a, reference=a)), ValueError, ["reference"],
    ),
    "one-sided distances": (
        nothing, on_patients(gml.pp.neighbors, distance(9.0, (0, 1))), ValueError,
        ["'gml_distances'", "not symmetric", "gml.tl.patient_distances"],
    ),
    "negative distances": (
        nothing, on_patients(gml.get.distances, distance(-1.0, (0, 1), (1, 0))), ValueError, ["negative", "-1"],
    ),
    "distances are NaN": (
        nothing, on_patients(gml.pl.patient_heatmap, distance(np.nan, (0, 1), (1, 0))), ValueError, ["NaN"],
    ),
    "distances to oneself": (
        nothing, on_patients(gml.get.patpy, distance(1.0, (0, 0))), ValueError, ["at distance 0 from themselves"],
    ),
    "distances are text": (
        nothing, on_patients(gml.get.distances, as_slot("obsp", "gml_distances", lambda x: x.astype(str))), ValueError,
        ["'gml_distances'", "real numbers", "<U"],
    ),
    "distances of some": (
        nothing, on_patients(gml.get.distances, as_slot("obsp", "gml_distances", sp.csr_matrix)), ValueError,
        ["nearest patients only", "neighbors_only"],
    ),
    "coordinates are text": (
        nothing, on_patients(gml.pl.patient_embedding, as_slot("obsm", "X_gml_mds", lambda x: x.astype(str))),
        ValueError, ["X_gml_mds", "real numbers"],
    ),
    "patpy to a reference": (
        nothing, lambda a: gml.get.patpy(gml.tl.patient_distances(a, reference=a)), ValueError, ["reference"],
    ),
    "patpy beside a number": (
        nothing, on_patients(gml.get.patpy, lambda p: p.uns.update(sample_representations=3)), ValueError,
        ["'sample_representations'", "list of names", "got 3"],
    ),
    "patpy beside one name": (
        nothing, on_patients(gml.get.patpy, lambda p: p.uns.update(sample_representations="scvi")), ValueError,
        ["'sample_representations'", "list of names", "'scvi'"],
    ),
    "patpy with half a graph": (
        nothing,
        on_patients(gml.get.patpy, lambda p: p.uns.update(neighbors={"params": {"use_rep": "X_gml_mds"}})),
        KeyError, ["'neighbors'", "'connectivities_key'", "gml.pp.neighbors"],
    ),
    "patpy of cells": (nothing, apply(gml.get.patpy), KeyError, ["'gml_distances'", "gml.tl.patient_distances"]),
    "distances of cells": (nothing, apply(gml.get.distances), KeyError, ["gml.tl.patient_distances"]),
    "distances of nothing": (nothing, alone(gml.get.distances, None), TypeError, ["`patients`", "NoneType"]),
    "loadings of no metric": (nothing, apply(gml.get.loadings, metric="x"), KeyError, ["'x'", "gml.tl.learn_metric"]),
    "key is a list": (
        nothing, apply(gml.get.loadings, metric=["gml"]), TypeError, ["adata.varm", "strings", "['gml']"],
    ),
    "metric of a list": (nothing, read(key=["gml"]), TypeError, ["adata.uns", "strings", "['gml']"]),
    "metric of nothing": (nothing, alone(gml.get.metric, None), TypeError, ["`adata`", "NoneType"]),
    # scores between typical patients
    "typical by no metric": (nothing, apply(gml.tl.barycenter, metric="x"), KeyError, ["'x'", "gml.tl.learn_metric"]),
    "typical by city blocks": (
        nothing, apply(gml.tl.barycenter, metric=Fixed("cityblock")), ValueError, ["means of cells", "'cityblock'"],
    ),
    "typical on lines": (nothing, apply(gml.tl.barycenter, solver="sliced"), ValueError, ["'exact'", "'sliced'"]),
    "negative tolerance": (nothing, apply(gml.tl.barycenter, tol=-1.0), ValueError, ["`tol`", "at least 0", "-1.0"]),
    "typical of nobody": (
        set_obs("disease", np.nan, *ALL), apply(gml.tl.barycenter), ValueError, ["No patient", "adata.obs['disease']"],
    ),
    "scores of cells": (nothing, lambda a: gml.tl.score_patients(a, a), ValueError, ["74 rows", "not patients"]),
    "scores of strangers": (
        nothing, score(lambda p: setattr(p, "obs_names", [f"X{i}" for i in range(6)])),
        ValueError, ["6 of the 6", "'X0'"],
    ),
    "scores by no metric": (nothing, score(key="x"), KeyError, ["'x'", "gml.tl.learn_metric"]),
    "scores of one disease": (keep("P00", "P02"), score(n_points=None), ValueError, ["two diseases", "'disease_1'"]),
    "cells by no metric": (nothing, apply(gml.tl.score_cells, key="x"), KeyError, ["'x'", "gml.tl.learn_metric"]),
    "cells of one disease": (
        keep("P00", "P02"), apply(gml.tl.score_cells), ValueError, ["two diseases", "'disease_1': 2"],
    ),
    "cells of unknown diseases": (
        set_obs("disease", np.nan, *ALL), apply(gml.tl.score_cells), ValueError, ["No patient", "disease"],
    ),
    # reading
    "unknown rotation": (nothing, apply(gml.tl.rotate, rotation="promax"), ValueError, ["`rotation`", "'varimax'"]),
    "rotation over PCs": (nothing, apply(gml.tl.rotate, key_added="pca"), ValueError, ["'pca'", "adata.obsm['X_pca']"]),
    "nothing to rotate": (drop("obsm", "X_gml"), apply(gml.tl.rotate), KeyError, ["'X_gml'", "gml.tl.transform"]),
    "rotation of text": (
        as_slot("obsm", "X_gml", lambda x: x.astype(str)), apply(gml.tl.rotate), ValueError, ["X_gml", "real numbers"],
    ),
    "plan to a stranger": (nothing, apply(gml.tl.transport_plan, "P00", "P9"), ValueError, ["'P9'", "'P00', 'P01'"]),
    "plan to oneself": (
        nothing, apply(gml.tl.transport_plan, "P00", "P00"), ValueError, ["both 'P00'", "two patients"],
    ),
    "plan of lists": (nothing, apply(gml.tl.transport_plan, ["P00"], "P01"), ValueError, ["['P00']", "'P01'"]),
    "parts of what": (
        nothing, apply(gml.tl.explain_distance, "P00", "P01", by="cell"), ValueError, ["`by`", "'cell_type'", "'cell'"],
    ),
    "parts to a stranger": (nothing, apply(gml.tl.explain_distance, "P00", "P9"), ValueError, ["'P9'", "'P00'"]),
    "excess of two patients": (
        nothing, apply(gml.tl.explain_distance, "P00", "P01", excess=True), ValueError, ["excess=True", "`groupby`"],
    ),
    "parts of unknown types": (
        set_obs("cell_type", np.nan, rows=slice(3)), apply(gml.tl.explain_distance, "P00", "P01", by="cell_type"),
        ValueError, ["3 of 74", "no cell type", "'cell_type'"],
    ),
    "genes without a way": (
        nothing, apply(gml.tl.explain_distance, "P00", "P01", metric="blind", by="gene"), ValueError,
        ["'latent'", "no map to genes"],
    ),
    "ranking of no types": (
        nothing, apply(gml.tl.rank_cell_types, cell_type_key="x"), KeyError, ["'x'", "'cell_type'", "`cell_type_key`"],
    ),
    "groups by no column": (nothing, measure(cell_type_key="x"), KeyError, ["'x'", "'cell_type'", "`cell_type_key`"]),
    "ranking of unknown types": (
        set_obs("cell_type", np.nan, *ALL), apply(gml.tl.rank_cell_types), ValueError, ["no groups", "74 cells"],
    ),
    "ranking by shares": (
        nothing, apply(gml.tl.rank_cell_types, solver="centroids"), ValueError, ["`solver`", "'centroids'", "'exact'"],
    ),
    "no permutations": (
        nothing, apply(gml.tl.permutation_test, n_permutations=0), ValueError, ["`n_permutations`", "got 0"],
    ),
    "unknown statistic": (
        nothing, apply(gml.tl.permutation_test, statistic="t"), ValueError, ["`statistic`", "'permanova'", "'t'"],
    ),
    "test of a choice": (nothing, apply(gml.tl.permutation_test, method="auto"), ValueError, ["'auto'", "one method"]),
    "order of names": (
        nothing, apply(gml.tl.permutation_test, statistic="mantel"), ValueError, ["'mantel'", "numbers", "ordered"],
    ),
    "grid is text": (nothing, apply(gml.tl.tune, grid="discriminant"), TypeError, ["`grid`", "'discriminant'"]),
    "grid of single values": (
        nothing, apply(gml.tl.tune, grid={"method": "discriminant"}), TypeError, ["`grid`", "list"],
    ),
    "grid without methods": (
        nothing, apply(gml.tl.tune, grid={"shrinkage": [0.1]}), ValueError, ["`grid`", "'method'"],
    ),
    "grid of nothing": (nothing, apply(gml.tl.tune, grid={"method": []}), ValueError, ["`grid`", "[]"]),
    "grid of unknown settings": (
        nothing, apply(gml.tl.tune, grid={"method": ["discriminant"], "x": [1]}), ValueError, ["'x'", "'shrinkage'"],
    ),
    "one inner split": (nothing, apply(gml.tl.tune, n_inner_splits=1), ValueError, ["`n_inner_splits`", "at least 2"]),
    "sets of no table": (nothing, alone(gml.tl.enrich, None, SETS), TypeError, ["`table`", "gml.tl.rank_genes"]),
    "sets by no score": (nothing, alone(gml.tl.enrich, RANKED, SETS, score="x"), KeyError, ["'x'", "'importance'"]),
    "sets by a list": (
        nothing, alone(gml.tl.enrich, RANKED, SETS, score=["importance"]), KeyError, ["['importance']", "'importance'"],
    ),
    "sets of other genes": (
        nothing, alone(gml.tl.enrich, RANKED, {"s": ["a", "b", "c"]}),
        ValueError, ["0 of 3 genes", "'gene_000'", "'a'"],
    ),
    "sets with words as weights": (
        nothing, alone(gml.tl.enrich, RANKED, pd.DataFrame({"source": ["s"], "target": ["gene_000"], "weight": ["x"]})),
        ValueError, ["`gene_sets`", "'weight'", "numbers"],
    ),
    # preprocessing
    "sketch of no points": (nothing, apply(gml.pp.sketch, n_points=0), ValueError, ["`n_points`", "got 0"]),
    "sketch of no features": (nothing, apply(gml.pp.sketch, use_rep="x"), KeyError, ["'x'", "'X_pca'"]),
    "sketch of NaN": (set_pca(np.nan), apply(gml.pp.sketch), ValueError, ["'P04'", "NaN"]),
    "cells of nobody": (nothing, apply(gml.pp.equalize_cells, n_cells=1000), ValueError, ["n_cells=1000", "16"]),
    "half a cell": (nothing, apply(gml.pp.equalize_cells, n_cells=2.5), TypeError, ["`n_cells`", "2.5"]),
    "points are no cells": (
        nothing, lambda a: gml.pp.equalize_cells(gml.pp.sketch(a)), ValueError, ["sketch", "pass the cells"],
    ),
    # tables of scores
    "scores of nothing": (nothing, alone(gml.get.scores, None), TypeError, ["`table`", "gml.tl.cross_validate"]),
    "scores of an empty table": (nothing, alone(gml.get.scores, pd.DataFrame()), ValueError, ["'metric'", "'split'"]),
    "scores are text": (
        nothing, alone(gml.get.scores, SCORES.assign(auroc="x"), score="auroc"), ValueError, ["'auroc'", "numbers"],
    ),
    "all confidence": (
        nothing, alone(gml.get.scores, SCORES, score="auroc", confidence=1.0), ValueError, ["`confidence`", "1.0"],
    ),
    # simulated and public cohorts
    "cohort of nobody": (
        nothing, alone(gml.datasets.simulated_cohort, n_patients=0), ValueError, ["`n_patients`", "got 0"],
    ),
    "cohort of a word": (nothing, alone(gml.datasets.simulated_cohort, rng="a"), TypeError, ["`rng`", "'a'"]),
    "cohort of few genes": (
        nothing, alone(gml.datasets.simulated_cohort, n_genes=3, n_disease_genes=9), ValueError, ["`n_genes` = 3"],
    ),
    "gaussians of negative noise": (
        nothing, alone(gml.datasets.gaussian_cohort, noise=-1), ValueError, ["`noise`", "at least 0", "-1"],
    ),
    "more diseases than patients": (
        nothing, alone(gml.datasets.gaussian_cohort, n_patients=2), ValueError, ["`n_patients`", "at least 3"],
    ),
    "no cells of breasts": (nothing, alone(gml.datasets.kumar23, n_cells=0), ValueError, ["`n_cells`", "got 0"]),
    "folder is a number": (nothing, alone(gml.datasets.kumar23, cache_dir=3), TypeError, ["`cache_dir`", "3"]),
    "no cells of hearts": (nothing, alone(gml.datasets.kuppe22, n_cells=-1), ValueError, ["`n_cells`", "-1"]),
    "seed of hearts": (nothing, alone(gml.datasets.kuppe22, rng="x"), TypeError, ["`rng`", "'x'"]),
    "dataset is a number": (nothing, alone(gml.datasets.cellxgene, 3), TypeError, ["`dataset_version_id`", "3"]),
    "dataset is a name": (
        nothing, alone(gml.datasets.cellxgene, "breast"), ValueError, ["`dataset_version_id`", "'breast'"],
    ),
    # plots
    "cells against nothing": (nothing, apply(gml.pl.metric, components=(1, 9)), ValueError, ["`components`", "got 9"]),
    "cells by no column": (nothing, apply(gml.pl.metric, color="x"), KeyError, ["'x'", "'disease'"]),
    "loadings of no genes": (nothing, apply(gml.pl.loadings, n_genes=0), ValueError, ["`n_genes`", "got 0"]),
    "loadings of a blind metric": (
        nothing, apply(gml.pl.loadings, metric="blind"), KeyError, ["'blind'", "correlation"],
    ),
    "loss of no metric": (nothing, apply(gml.pl.loss, metric="x"), KeyError, ["'x'", "gml.tl.learn_metric"]),
    "loss on a number": (nothing, apply(gml.pl.loss, ax=3), TypeError, ["`ax`", "int"]),
    "spectrum of no metric": (nothing, apply(gml.pl.spectrum, metric="x"), KeyError, ["'x'", "gml.tl.learn_metric"]),
    "spectrum of a broken metric": (
        stored("components", with_nan), apply(gml.pl.spectrum), ValueError, ["adata.uns['gml']", "NaN"],
    ),
    "search that was not made": (nothing, apply(gml.pl.tune), ValueError, ["adata.uns['gml']", "method='auto'"]),
    "search of a table": (nothing, alone(gml.pl.tune, SCORES), ValueError, ["data.attrs['search']", "gml.tl.tune"]),
    "heatmap by no column": (nothing, on_patients(gml.pl.patient_heatmap, color="x"), KeyError, ["'x'", "'disease'"]),
    "heatmap with three names": (
        nothing, on_patients(gml.pl.patient_heatmap, labels=3), ValueError, ["`labels`", "None, True, False", "got 3"],
    ),
    "points with a name": (
        nothing, on_patients(gml.pl.patient_embedding, labels="P00"), ValueError, ["`labels`", "True", "'P00'"],
    ),
    "heatmap of cells": (nothing, apply(gml.pl.patient_heatmap), KeyError, ["gml.tl.patient_distances"]),
    "unknown basis": (
        nothing, on_patients(gml.pl.patient_embedding, basis="tsne"), ValueError, ["`basis`", "'umap'", "'tsne'"],
    ),
    "basis that was not made": (
        nothing, on_patients(gml.pl.patient_embedding, basis="umap"), KeyError, ["'X_umap'", "gml.pp.neighbors"],
    ),
    "patients without scores": (
        nothing, on_patients(gml.pl.score_patients), KeyError, ["'gml_score_'", "gml.tl.score_patients"],
    ),
    "scores are words": (
        nothing, on_patients(gml.pl.score_patients, lambda p: p.obs.insert(0, "gml_score_a", "x")), ValueError,
        ["'gml_score_a'", "numbers"],
    ),
    "ranking without importance": (nothing, alone(gml.pl.rank_genes, SCORES), ValueError, ["'importance'", "'metric'"]),
    "ranking of words": (
        nothing, alone(gml.pl.rank_genes, pd.DataFrame({"importance": ["x"]})), ValueError, ["'importance'", "numbers"],
    ),
    "ranking of NaN": (nothing, alone(gml.pl.rank_genes, RANKED * np.nan), ValueError, ["'importance'", "NaN"]),
    "types of another table": (nothing, alone(gml.pl.rank_cell_types, SCORES), ValueError, ["'cell_type'"]),
    "types of nothing": (nothing, alone(gml.pl.rank_cell_types, None), TypeError, ["`table`", "NoneType"]),
    "parts of nothing": (nothing, alone(gml.pl.explain_distance, FLOW, n_top=0), ValueError, ["`n_top`", "got 0"]),
    "parts are words": (
        nothing, alone(gml.pl.explain_distance, FLOW.assign(part="x")), ValueError, ["'part'", "numbers"],
    ),
    "flow of NaN": (nothing, alone(gml.pl.transport_plan, FLOW.assign(mass=np.nan)), ValueError, ["'mass'", "NaN"]),
    "flow of an excess": (nothing, alone(gml.pl.transport_plan, FLOW.assign(mass=-1.0)), ValueError, ["excess=False"]),
    "flow of too little": (nothing, alone(gml.pl.transport_plan, FLOW, min_share=2), ValueError, ["`min_share`", "2"]),
    "validation by no score": (
        nothing, alone(gml.pl.cross_validate, SCORES, score="f2"), ValueError, ["`score`", "'auroc'", "'f2'"],
    ),
    "validation by no readout": (
        nothing, alone(gml.pl.cross_validate, SCORES, score="auroc", readout="svm"), ValueError, ["'knn'", "'svm'"],
    ),
    "confusion of a file": (nothing, alone(gml.pl.confusion_matrix, SCORES), ValueError, ["predictions", "CSV"]),
    "confusion of a word": (
        nothing, alone(gml.pl.confusion_matrix, SCORES, normalize="rows"), ValueError, ["`normalize`", "'rows'"],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.* names are not unique", "ignore:The metric has no map to genes")
@pytest.mark.parametrize(("edit", "call", "error", "words"), BAD.values(), ids=BAD)
def test_refused(adata: AnnData, edit: Edit, call: Edit, error: type[Exception], words: list[str]) -> None:
    edit(adata)
    before = contents(adata)
    with pytest.raises(error) as caught:
        call(adata)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, message
    assert type(caught.value) is error
    assert not changed(before, contents(adata))


def test_two_rows_for_each_public_function() -> None:
    """Functions that a row calls, itself or through a helper of this file."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    helpers: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()

    def called(node: ast.AST) -> set[str]:
        text = ast.unparse(node)
        found = set(re.findall(r"gml\.((?:datasets|get|pl|pp|tl)\.\w+)", text))
        return found.union(*(helpers.get(name, set()) for name in re.findall(r"\w+", text)))

    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            helpers[node.name] = called(node)
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "BAD":
            rows = [row for row in ast.walk(node) if isinstance(row, ast.Tuple) and len(row.elts) == 4]
            counts.update(name for row in rows for name in called(row.elts[1]))
            assert len(rows) == len(BAD)
    spaces = {"datasets": gml.datasets, "get": gml.get, "pl": gml.pl, "pp": gml.pp, "tl": gml.tl}
    public = [f"{space}.{name}" for space, module in spaces.items() for name in module.__all__]
    assert {name: counts[name] for name in public if counts[name] < 2} == {}


def test_view_stays_a_view_when_refused(adata: AnnData) -> None:
    view = adata[adata.obs["disease"] == "disease_1"]
    with pytest.raises(ValueError, match="two diseases"):
        gml.tl.learn_metric(view)
    assert view.is_view


BACKED: dict[str, Edit] = {
    "learn": learn(),
    "measure": measure(metric=None),
    "rank": rank(),
    "predict": lambda a: gml.tl.predict(a, a),
    "transform": lambda a: gml.tl.transform(a, gml.get.metric(a.to_memory())),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", BACKED.values(), ids=BACKED)
def test_backed_genes_by_column_are_refused(adata: AnnData, tmp_path: Path, call: Edit) -> None:
    """The cells of a patient cannot be read alone."""
    adata.X = sp.csc_matrix(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    content = (tmp_path / "cells.h5ad").read_bytes()
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    try:
        with pytest.raises(ValueError, match=r"lies on disk gene by gene \(CSC\).*\.tocsr\(\)"):
            call(backed)
    finally:
        backed.file.close()
    assert (tmp_path / "cells.h5ad").read_bytes() == content


# what is accepted changes nothing but the documented slots


GOOD: dict[str, tuple[Edit, set[str]]] = {
    "learn anew": (learn(n_points=3), {"uns/gml", "obsm/X_gml", "varm/gml"}),
    "learn triplet": (
        lambda a: gml.tl.learn_metric(a, method=Triplet(max_iter=2), key_added="new", n_points=5),
        {"uns/new", "obsm/X_new", "varm/new"},
    ),
    "learn with donors and batches": (
        learn(donor_key="donor", batch_key="batch", key_added="new"), {"uns/new", "obsm/X_new", "varm/new"},
    ),
    "learn by any method": (
        lambda a: gml.tl.learn_metric(a, n_points=4, key_added="new"), {"uns/new", "obsm/X_new", "varm/new"},
    ),
    "learn nothing": (learn(method="euclidean", key_added="new"), {"uns/new", "obsm/X_new", "varm/new"}),
    "learn on genes": (learn(use_rep="X", key_added="new"), {"uns/new", "obsm/X_new", "varm/new"}),
    "learn on a layer": (learn(layer="log", key_added="new"), {"uns/new", "obsm/X_new", "varm/new"}),
    "learn without genes": (learn(use_rep="latent"), {"uns/gml", "obsm/X_gml", "varm/gml"}),
    "learn without genes anew": (learn(use_rep="latent", key_added="new"), {"uns/new", "obsm/X_new"}),
    "transform": (
        lambda a: gml.tl.transform(a, gml.get.metric(a), key_added="new"), {"uns/new", "obsm/X_new", "varm/new"},
    ),
    "measure": (measure(), set()),
    "measure sketches": (measure(n_points=4), set()),
    "measure genes": (measure(metric=None, use_rep="X", power=2), set()),
    "measure all cells": (measure(metric=Fixed("cityblock"), n_points=None), set()),
    "measure against": (against(nothing), set()),
    "predict": (to_query(), set()),
    "validate": (validate(metrics=["euclidean", "discriminant"], splits=2, donor_key="donor", n_points=5), set()),
    "rank": (rank(), set()),
    "get": (read(), set()),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("call", "slots"), GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("form", ["csr", "dense"])
def test_only_documented_slots_change(adata: AnnData, call: Edit, slots: set[str], form: str) -> None:
    if form == "dense":
        adata.X = adata.X.toarray()
    before = contents(adata)
    x = adata.X if form == "dense" else adata.X.data
    for array in (x, *adata.obsm.values(), *adata.varm.values()):
        array.flags.writeable = False  # as from a memory map
    call(adata)
    assert changed(before, contents(adata)) == slots


@pytest.mark.slow
def test_patients_get_only_the_graph_of_scanpy(adata: AnnData) -> None:
    patients = gml.tl.patient_distances(adata)
    before = contents(patients)
    patients.obsp["gml_distances"].flags.writeable = False
    gml.pp.neighbors(patients)
    assert changed(before, contents(patients)) == {"uns/neighbors", "obsp/distances", "obsp/connectivities"}
