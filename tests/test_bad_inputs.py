"""What cannot be done is refused in words that help, and leaves everything as it was."""

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
from gml.methods import Fixed, Spectral, Triplet
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
    gml.tl.learn_metric(adata, method="spectral")
    gml.tl.learn_metric(adata, method="spectral", use_rep="latent", key_added="blind")
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
    return lambda adata: gml.tl.learn_metric(adata, **{"method": "spectral"} | kwargs)


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


def neighbors(n: int, **kwargs: Any) -> Edit:
    def call(adata: AnnData) -> None:
        patients = gml.tl.patient_distances(adata[of(adata, *ALL[:n])], metric=None)
        before = contents(patients)
        try:
            gml.pp.neighbors(patients, **kwargs)
        finally:
            assert not changed(before, contents(patients))

    return call


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
    "equal cells, spectral": (equal_cells, learn(), ValueError, ["same cells", "nothing to learn"]),
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
        ["`method`", "'auto', 'spectral', 'triplet', 'euclidean'", "'tripelt'"],
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
    "names in an order, spectral": (
        nothing, learn(method=Spectral(target="ordered")), ValueError, ["target='ordered'", "ordered categories"],
    ),
    "one value in order": (
        numbers(2.5, 2.5), learn(method=Spectral(target="ordered")), ValueError, ["two different values", "2.5"],
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
    "target is unknown to both": (nothing, lambda _: Spectral(target="age"), ValueError, ["`target`", "'age'"]),
    "early stopping is a number": (
        nothing, lambda _: Triplet(early_stopping=3), ValueError, ["`early_stopping`", "True, False", "got 3"],
    ),
    "no passes": (nothing, lambda _: Triplet(max_iter=0), ValueError, ["`max_iter`", "got 0"]),
    "passes are a float": (nothing, lambda _: Triplet(max_iter=3.0), TypeError, ["`max_iter`", "3.0"]),
    "infinite step": (nothing, lambda _: Triplet(learning_rate=np.inf), ValueError, ["`learning_rate`", "inf"]),
    "unknown start": (nothing, lambda _: Triplet(init="pca"), ValueError, ["`init`", "'spectral'", "'pca'"]),
    "power of a method": (nothing, lambda _: Triplet(power=3), ValueError, ["`power`", "1, 2", "got 3"]),
    "setting of another method": (nothing, lambda _: Spectral(margin=1.0), TypeError, ["margin"]),
    "too much shrinkage": (nothing, lambda _: Spectral(shrinkage=1.5), ValueError, ["`shrinkage`", "at most 1", "1.5"]),
    "shrinkage is NaN": (nothing, lambda _: Spectral(shrinkage=np.nan), ValueError, ["`shrinkage`", "nan"]),
    "shrinkage is a word": (nothing, lambda _: Spectral(shrinkage="none"), TypeError, ["`shrinkage`", "'none'"]),
    "negative weight": (nothing, lambda _: Spectral(whitening=-1.0), ValueError, ["`whitening`", "at least 0", "-1.0"]),
    "weight is bool": (nothing, lambda _: Spectral(euclidean=True), TypeError, ["`euclidean`", "True"]),
    "nothing to sum": (
        nothing, lambda _: Spectral(excess=0.0), ValueError, ["`excess`", "`whitening`", "`euclidean`", "above 0"],
    ),
    "balance is a number": (nothing, lambda _: Spectral(balanced=1), ValueError, ["`balanced`", "True, False"]),
    "no rounds": (nothing, lambda _: Spectral(rounds=0), ValueError, ["`rounds`", "got 0"]),
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
    "metrics are text": (nothing, validate(metrics="spectral"), TypeError, ["`metrics`", "list", "'spectral'"]),
    "no metrics": (nothing, validate(metrics=[]), TypeError, ["`metrics`"]),
    "unknown metric": (nothing, validate(metrics=["cosine"]), ValueError, ["`metrics`", "'spectral'", "'cosine'"]),
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
    # patients
    "no distances": (nothing, gml.pp.neighbors, KeyError, ["'gml_distances'", "gml.tl.patient_distances"]),
    "no distances of that name": (nothing, neighbors(4, key="x"), KeyError, ["'x_distances'", "'gml_distances'"]),
    "one neighbour": (nothing, neighbors(4, n_neighbors=1), ValueError, ["`n_neighbors`", "at least 2", "got 1"]),
    "two patients": (nothing, neighbors(2), ValueError, ["three patients", "got 2"]),
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
    "validate": (validate(metrics=["euclidean", "spectral"], splits=2, donor_key="donor", n_points=5), set()),
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


def test_patients_get_only_the_graph_of_scanpy(adata: AnnData) -> None:
    patients = gml.tl.patient_distances(adata)
    before = contents(patients)
    patients.obsp["gml_distances"].flags.writeable = False
    gml.pp.neighbors(patients)
    assert changed(before, contents(patients)) == {"uns/neighbors", "obsp/distances", "obsp/connectivities"}
