"""From an AnnData and a metric to the points of its patients in the space where transport is measured.

Which features a metric reads, and from where, is decided here for all tools.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gml._anndata import (
    GENES,
    MODALITY,
    Keys,
    better_names,
    dense,
    find_features,
    find_features_through_genes,
    gene_positions,
    load_frame,
    numeric_matrix,
    read_rows,
)
from gml._base import warn
from gml._cohort import Cohort
from gml._metric import GroundMetric, read_metric, scaling
from gml._ot import Clouds, Ground, distances_among, join, on_support_of, pair_distances, represent, type_key
from gml.methods import Fixed

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Features, UseRep
    from gml._cohort import Design, Points
    from gml._ot import Convergence
    from gml.solvers import Solver

Metric: TypeAlias = str | GroundMetric | Fixed | None

CHECKED_CELLS = 100
PATIENT, DISEASE = "patient", "disease"  # defaults of `patient_key` and `disease_key`


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """What a `metric=` argument stands for."""

    name: str
    """Key in ``uns``, ``"GroundMetric"`` for an object, or the name of a fixed metric."""
    learned: GroundMetric | None = None
    """The learned metric; `None` for a fixed one."""
    holder: AnnData | None = None
    """The AnnData that holds it under its key, with the cells it was learned on."""
    fixed: Fixed | None = None
    """The fixed metric; `None` for a learned one and for the Euclidean one by default."""
    scale: NDArray[np.float64] | None = None
    """Map of a fixed metric that is estimated from points, shape (k, d), once that is done."""

    @property
    def kind(self) -> str:
        """How `metric=` was given: as a ``"key"``, an ``"object"``, or ``"fixed"``."""
        if self.learned is None:
            return "fixed"
        return "object" if self.holder is None else "key"

    @property
    def power(self) -> int:
        """The metric's own exponent."""
        return 1 if self.learned is None else self.learned.power

    def ground(self, power: int) -> Ground:
        """Ground cost between mapped points."""
        return Ground(power=power, metric="euclidean" if self.fixed is None else self.fixed.ground)

    def key_for(self, adata: AnnData, key: str, *, default: str) -> str:
        """`key`, or that of the metric if `key` is only the default."""
        stored = None if self.learned is None else self.learned.params.get(f"{default}_key")
        return str(stored) if key == default and stored in adata.obs else key

    def gene_symbols_in(self, adata: AnnData) -> str | None:
        """Column of ``adata.var`` by which :func:`gml.tl.transform` matched genes with the metric of this key."""
        if self.kind != "key" or self.name not in adata.uns:
            return None
        learned = self.learned if self.holder is adata else read_metric(adata, self.name)
        column = None if learned is None else learned.params.get("gene_symbols")
        return None if column is None else str(column)

    def clouds(self, points: Points) -> Clouds:
        """Points in the space where the ground cost is taken."""
        return Clouds.of(points, self.scale if self.learned is None else self.learned.components)

    def embed(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features (n, d) → the space where the ground cost is taken."""
        if self.scale is not None:
            return x @ self.scale.T
        return x if self.learned is None else self.learned.transform(x)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Patients, ready to be transported."""

    cohort: Cohort
    points: Points
    clouds: Clouds


def yardstick(metric: Metric, *, holders: tuple[AnnData, ...], estimated: bool = False) -> Yardstick:
    """Understand a `metric=` argument; a key is looked up in `holders`, one after the other.

    Metrics that are to be `estimated` from the points of all patients are refused where these are not read.
    """
    if metric is None:
        return Yardstick("euclidean")
    if isinstance(metric, Fixed):
        if metric.estimated and not estimated:
            msg = (
                f"The metric {metric.name!r} is estimated from all patients, as gml.tl.patient_distances and "
                "gml.tl.predict do, but not here; take another one, or scale the features and pass metric=None."
            )
            raise ValueError(msg)
        return Yardstick(metric.name, fixed=metric)
    if isinstance(metric, GroundMetric):
        return Yardstick("GroundMetric", metric)
    if not isinstance(metric, str):
        msg = (
            "`metric` must be a key of adata.uns, a GroundMetric, a gml.methods.Fixed or None for the Euclidean "
            f"metric, got {metric!r}."
        )
        raise TypeError(msg)
    holder = next((adata for adata in holders if metric in adata.uns), holders[0])
    try:
        return Yardstick(metric, read_metric(holder, metric), holder)
    except KeyError as error:
        found = error.args[0] if holder is holders[-1] else error.args[0].replace("adata.uns", "reference.uns")
        msg = f"{found} For distances without a learned metric pass metric=None."
        raise KeyError(msg) from None


def features_of(
    adata: AnnData,
    stick: Yardstick,
    *,
    use_rep: UseRep = None,
    layer: str | None = None,
    gene_symbols: str | None = None,
    alone: bool = True,
) -> Features:
    """The features of `adata` that the metric measures, `alone` or together with those of another AnnData.

    `gene_symbols` is the column of ``adata.var`` with the names of genes; `None` for the one that is stored, or
    ``adata.var_names``. A metric that was not learned takes genes as they are.
    """
    learned = stick.learned
    if learned is None:
        return find_features(adata, use_rep=use_rep, layer=layer)
    rep, own_layer = learned.params.get("use_rep"), learned.params.get("layer")
    if rep is None:
        msg = (
            f"The metric {stick.name!r} does not say what it takes: its `params` have no 'use_rep'. "
            "Make metrics with `gml.tl.learn_metric`."
        )
        raise ValueError(msg)
    if use_rep not in {None, GENES, rep} or layer not in {None, own_layer}:
        find_features(adata, use_rep=use_rep, layer=layer)  # which names what is missing
    for name, given, own in (("use_rep", use_rep, rep), ("layer", layer, own_layer)):
        if given is not None and given != own:
            msg = f"{name}={given!r} does not fit: the metric {stick.name!r} was learned with {name}={own!r}."
            raise ValueError(msg)
    d = learned.components.shape[1]
    at_home = stick.holder is adata and not learned.params.get("transformed", False)
    if learned.gene_map is not None and (rep == GENES or not at_home):
        _check_modalities(adata, learned, learned.gene_map.names)
        features = find_features_through_genes(
            adata,
            learned.gene_map,
            components=learned.components,
            rep=rep,
            layer=own_layer,
            gene_symbols=stick.gene_symbols_in(adata) if gene_symbols is None else gene_symbols,
            same_cells=at_home,
        )
        if at_home:
            _check_unchanged(adata, stick, features, alone=alone)
        return features
    _check_no_symbols(gene_symbols, why=f"adata.obsm[{rep!r}] is measured, and not genes")
    if not at_home:
        warn(
            f"The metric has no map to genes, so adata.obsm[{rep!r}] is used as it is. That is right only if it comes "
            "from one embedding together with the cells that the metric was learned on."
        )
    features = find_features(adata, use_rep=rep)
    if len(features.names) != d:
        msg = f"adata.obsm[{rep!r}] has {len(features.names)} columns, the metric {stick.name!r} needs {d}."
        raise ValueError(msg)
    if at_home:
        _check_unchanged(adata, stick, features, alone=alone)
    return features


def _check_modalities(adata: AnnData, learned: GroundMetric, genes: NDArray[np.str_]) -> None:
    """Whether cells of one modality are given to a metric of several, of whose genes none would be found."""
    table = learned.modalities
    if table is None or len(table) == 1 or MODALITY in adata.var or adata.var_names.isin(genes).any():
        return
    msg = (
        f"The metric takes the modalities {', '.join(map(repr, table['modality']))} together, and the genes of the "
        "AnnData belong to none of them by name; pass a MuData that holds them all."
    )
    raise ValueError(msg)


def _check_no_symbols(gene_symbols: str | None, *, why: str) -> None:
    """Whether no column of genes is asked for where genes are not matched."""
    if gene_symbols is not None:
        msg = f"`gene_symbols` must be None, as {why}; got {gene_symbols!r}."
        raise ValueError(msg)


def _check_unchanged(adata: AnnData, stick: Yardstick, features: Features, *, alone: bool) -> None:
    """Whether the features still give the stored embedding, told by a few cells.

    A shift or a factor of all features is allowed if these cells are measured `alone`: it does no harm.
    """
    keys = Keys(stick.name)
    if stick.learned is None or keys.embedding not in adata.obsm:
        return
    rows = np.unique(np.linspace(0, adata.n_obs - 1, CHECKED_CELLS).astype(np.intp))
    embedding = numeric_matrix(load_frame(adata.obsm[keys.embedding]), name=f"adata.obsm[{keys.embedding!r}]")
    stored = dense(read_rows(embedding, rows))
    now = stick.learned.transform(features.read(rows))
    if not np.isfinite(now).all():
        return  # which has an error of its own
    if stored.shape == now.shape:
        spread = np.ptp(stored, axis=0).max()
        if alone:
            stored, now = stored - stored.mean(axis=0), now - now.mean(axis=0)
            factor = (stored * now).sum() / ((stored**2).sum() or 1.0)
            stored, spread = factor * stored, abs(factor) * spread
        if np.abs(now - stored).max() <= 1e-3 * spread:
            return
    msg = (
        f"The features of the cells (use_rep={features.rep!r}) no longer give adata.obsm[{keys.embedding!r}]: one of "
        f"them has changed since the metric {stick.name!r} was learned. Run `gml.tl.learn_metric` again, or apply the "
        "metric to these cells with `gml.tl.transform`."
    )
    raise ValueError(msg)


def matched_features(features: Features, adata: AnnData, reference: Features, *, gene_symbols: str | None) -> Features:
    """The features of `adata` in the order of those of a reference, for a metric that was not learned."""
    if features.rep != reference.rep:
        msg = f"`adata` would be measured on {features.rep!r} and `reference` on {reference.rep!r}; pass `use_rep`."
        raise ValueError(msg)
    if features.rep != GENES:
        if len(features.names) != len(reference.names):
            msg = (
                f"obsm[{features.rep!r}] has {len(features.names)} columns in `adata` and {len(reference.names)} in "
                "`reference`; both must come from one embedding."
            )
            raise ValueError(msg)
        _check_no_symbols(gene_symbols, why=f"obsm[{features.rep!r}] is measured, and not genes")
        return features
    columns = gene_positions(adata, reference.names, gene_symbols)
    if (missing := reference.names[columns < 0]).size:
        hint = better_names(adata, reference.names, gene_symbols)
        msg = (
            f"{missing.size} genes of `reference` are not in `adata`, e.g. {str(missing[0])!r}; subset both "
            f"alike.{hint}"
        )
        raise ValueError(msg)
    return replace(features, names=reference.names, columns=columns)


def keys_of(adata: AnnData, stick: Yardstick, *, patient_key: str, disease_key: str) -> tuple[str, str | None]:
    """Columns of patients and diseases: those of the metric where only the default is asked for.

    The disease is `None` if it is absent under its default name; under another name it must be there.
    """
    patient_key = stick.key_for(adata, patient_key, default=PATIENT)
    disease_key = stick.key_for(adata, disease_key, default=DISEASE)
    return patient_key, None if disease_key == DISEASE and DISEASE not in adata.obs else disease_key


def design_of(
    adata: AnnData, measured: Measured, stick: Yardstick, *, patient_key: str, disease_key: str | None
) -> Design:
    """Diseases of the patients, and the donors and batches that the metric was learned with, where they are there."""
    params = {} if stick.learned is None else stick.learned.params
    also = {name: params[name] for name in ("donor_key", "batch_key") if params.get(name) in adata.obs}
    if not also:
        return measured.cohort.design
    features = measured.cohort.features  # which were checked when they were measured
    cohort = Cohort.from_anndata(
        adata, features, patient_key=patient_key, disease_key=disease_key, finite=False, **also
    )
    return cohort.design


def _measure(
    adata: AnnData,
    stick: Yardstick,
    features: Features,
    *,
    patient_key: str,
    disease_key: str,
    labelled: bool,
    solver: Solver,
    n_points: int | None,
    seed: int,
    n_jobs: int | None,
    source: Points | None = None,
) -> Measured:
    patient_key, disease = keys_of(adata, stick, patient_key=patient_key, disease_key=disease_key)
    disease = disease if labelled else None
    cohort = Cohort.from_anndata(
        adata, features, patient_key=patient_key, disease_key=disease, type_key=type_key(solver)
    )
    return measure_cohort(cohort, stick, solver=solver, n_points=n_points, seed=seed, n_jobs=n_jobs, source=source)


def measure_cohort(
    cohort: Cohort,
    stick: Yardstick,
    *,
    solver: Solver,
    n_points: int | None,
    seed: int,
    n_jobs: int | None,
    source: Points | None = None,
) -> Measured:
    """The points of patients in the space where transport is measured; a shared support is that of `source`."""
    points = represent(cohort, solver, n_points=n_points, seed=seed, n_jobs=n_jobs)
    points = on_support_of(points, points if source is None else source, solver)
    return Measured(cohort, points, stick.clouds(points))


def scaled(stick: Yardstick, one: Measured, other: Measured | None) -> tuple[Yardstick, Measured, Measured | None]:
    """The metric, if it is estimated, from the points of the reference or else of all patients, and both under it."""
    scale = None if stick.fixed is None else scaling((one if other is None else other).points, stick.fixed)
    if scale is None:
        return stick, one, other
    one = replace(one, clouds=Clouds.of(one.points, scale))
    other = None if other is None else replace(other, clouds=Clouds.of(other.points, scale))
    return replace(stick, scale=scale), one, other


def measure_against(
    adata: AnnData,
    reference: AnnData | None,
    stick: Yardstick,
    *,
    patient_key: str,
    disease_key: str,
    use_rep: UseRep,
    layer: str | None,
    solver: Solver,
    n_points: int | None,
    seed: int,
    n_jobs: int | None,
    labelled: bool = True,
    gene_symbols: str | None = None,
) -> tuple[Measured, Measured | None]:
    """Patients of `adata`, and those of `reference` if there is one, in one space.

    The diseases of `adata` are read only if they are to be `labelled`, those of `reference` always. `gene_symbols` is
    for the genes of `adata`.
    """
    measure = partial(
        _measure,
        patient_key=patient_key,
        disease_key=disease_key,
        solver=solver,
        n_points=n_points,
        seed=seed,
        n_jobs=n_jobs,
    )
    alone = reference is None
    if alone and stick.learned is None:
        _check_no_symbols(gene_symbols, why=f"the metric {stick.name!r} takes all genes as they are")
    features = features_of(adata, stick, use_rep=use_rep, layer=layer, gene_symbols=gene_symbols, alone=alone)
    other = None
    if reference is not None:
        reference_features = features_of(reference, stick, use_rep=use_rep, layer=layer, alone=False)
        if stick.learned is None:
            features = matched_features(features, adata, reference_features, gene_symbols=gene_symbols)
        other = measure(reference, stick, reference_features, labelled=True)
    source = None if other is None else other.points
    return measure(adata, stick, features, labelled=labelled, source=source), other


def distances_within(
    one: Measured, *, ground: Ground, solver: Solver, n_jobs: int | None, ended: list[Convergence] | None = None
) -> NDArray[np.float64]:
    """All patients with each other, shape (p, p), symmetric with a zero diagonal."""
    return distances_among(one.clouds, ground=ground, solver=solver, n_jobs=n_jobs, ended=ended)


def distances_between(
    one: Measured,
    other: Measured,
    *,
    ground: Ground,
    solver: Solver,
    n_jobs: int | None,
    ended: list[Convergence] | None = None,
) -> NDArray[np.float64]:
    """Patients of one cohort × patients of another, shape (p, p_other)."""
    n, m = len(one.cohort), len(other.cohort)
    pairs = np.column_stack([np.repeat(np.arange(n), m), n + np.tile(np.arange(m), n)])
    both = join([one.clouds, other.clouds])
    found = pair_distances(both, pairs, ground=ground, solver=solver, n_jobs=n_jobs, ended=ended)
    return found.reshape(n, m)
