"""The patient AnnData: annotations of each patient, and the distances between them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import anndata as ad
import pandas as pd

from gml._anndata import N_CELLS, NOISE_FLOOR, Keys, average, colors_of, gene_matrix, get_var
from gml._base import check_memory
from gml._cohort import constant_columns, patients_of_cells

from ._measure import classical_mds, distances_between, distances_within
from ._noise import noise_floor, sketch_error, warn_of_sizes, warn_of_sketch
from ._store import params_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from gml._anndata import Columns
    from gml._cohort import Work
    from gml._ot import Ground

    from ._measure import Measured
    from ._metric import ResolvedMetric


def check_distances_fit(query: AnnData, reference: AnnData | None, metric: ResolvedMetric, *, columns: Columns) -> None:
    """Raise before the work if the distances cannot be held."""
    holders = [query] if reference is None else [query, reference]
    sizes = [len(patients_of_cells(cells, metric.columns(cells, columns).patient)[1]) for cells in holders]
    n, m = sizes[0], sizes[-1]
    n_bytes = 3 * 8 * n * m  # the distances, and the numbers of both patients of each
    advice = "Pass `neighbors_only` for those to the nearest patients."
    check_memory(n_bytes, what=f"Distances between {n} and {m} patients", advice=advice)


def describe_patients(
    adata: AnnData,
    query: Measured,
    columns: Columns,
    *,
    key_added: str,
    ground: Ground,
    work: Work,
    more: Mapping[str, Any],
) -> AnnData:
    """Patients × genes: means of genes, numbers of cells, and columns that are constant within patients.

    With noise floor, sketch error and the arguments of the call; `more` are those of one function.
    """
    metric, features = query.metric, query.cohort.features
    cohort = query.cohort
    obs = constant_columns(adata, cohort.rows).set_axis(pd.Index(cohort.patients.astype(object)), axis=0)
    obs = obs.assign(**{N_CELLS: cohort.n_cells})
    x = None if adata.X is None else average(cohort.averaging(adata.n_obs), gene_matrix(adata, None))
    patients = ad.AnnData(X=x, obs=obs, var=get_var(adata))
    patients.uns |= colors_of(adata, obs.columns)
    patients.obs[NOISE_FLOOR] = noise_floor(query, ground=ground, work=work)
    learned = {} if metric.learned is None else metric.learned.params
    params = params_of(metric.columns(adata, columns), features, work, metric=metric)
    params |= {"metric_params": learned, "power": ground.power, **more}
    params |= {} if features.match is None else features.match.params
    run = {"params": params, "sketch_error": sketch_error(query, ground=ground)}
    if metric.learned is not None:
        run["loss"] = metric.learned.loss
    patients.uns[Keys(key_added).run] = run
    return patients


def store_distances(
    patients: AnnData, query: Measured, reference: Measured | None, *, key_added: str, ground: Ground, work: Work
) -> None:
    """Compute and store all distances, and the convergence of an iterative solver; warn if noise dominates them."""
    keys = Keys(key_added)
    run = patients.uns[keys.run]
    if reference is None:
        solved = distances_within(query, ground=ground, work=work)
        patients.obsp[keys.distances] = solved.distances
        patients.obsm[keys.mds] = classical_mds(solved.distances ** (1 / ground.power))
        warn_of_sizes(solved.distances, patients.obs[NOISE_FLOOR].to_numpy(), query.cohort)
        warn_of_sketch(solved.distances, run["sketch_error"], n_points=work.n_points)
    else:
        solved = distances_between(query, reference, ground=ground, work=work)
        patients.obsm[keys.distances] = solved.distances
        run["reference"] = reference.cohort.patients
    if solved.convergence is not None:
        run["convergence"] = asdict(solved.convergence)
