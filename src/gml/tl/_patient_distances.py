"""Compare patients as distributions of cells."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import anndata as ad
import pandas as pd

from gml._anndata import (
    N_CELLS,
    NOISE_FLOOR,
    Keys,
    average,
    check_anndata,
    check_key_added,
    colors_of,
    get_var,
    numeric_matrix,
)
from gml._base import check_choice, check_int, check_memory, check_n_jobs, check_n_points, check_seed, metric_name
from gml._cohort import constant_columns, patients_of_cells
from gml._measure import (
    DISEASE,
    PATIENT,
    classical_mds,
    distances_between,
    distances_within,
    keys_of,
    measure_against,
    measure_groups,
    noise_floor,
    read_groups,
    scaled,
    sketch_error,
    warn_of_sizes,
    warn_of_sketch,
    yardstick,
)
from gml._mudata import takes_mudata
from gml._ot import nearest_patients, used_points, worst
from gml.solvers import Centroids, Exact, Gaussian, Sliced, resolve_solver, solver_name

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import UseRep
    from gml._measure import Measured, Metric, Yardstick
    from gml._ot import Convergence, Ground
    from gml.methods import Power
    from gml.solvers import Solver, SolverName


@takes_mudata
def patient_distances(  # noqa: PLR0913 (one argument per column, and what all distances share)
    adata: AnnData,
    *,
    metric: Metric = "gml",
    reference: AnnData | None = None,
    groupby: str | None = None,
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    use_rep: UseRep = None,
    layer: str | None = None,
    gene_symbols: str | None = None,
    solver: SolverName | Solver = "exact",
    power: Power | None = None,
    n_points: int | None = 64,
    neighbors_only: int | None = None,
    key_added: str = "gml",
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> AnnData:
    r"""Optimal transport distances between patients.

    Each patient is the distribution of their cells :cite:p:`Kuehn2025`. The distance of two patients is the least
    average cost of moving the cells of one onto the cells of the other,

    .. math:: D_{pq} = \min_{\pi} \sum_{ij} \pi_{ij} \, d(x_i, y_j)^q,

    where :math:`d` is the ground metric and :math:`q` the `power`; with :math:`q = 2` it is a squared distance.
    Time grows as :math:`p^2 m^3` for p patients of m points.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, in memory or on disk, or a sketch of :func:`gml.pp.sketch`. Not
        modified.
    metric
        `key_added` of :func:`gml.tl.learn_metric` or :func:`gml.tl.transform`, a :class:`gml.GroundMetric`, a
        :class:`gml.methods.Fixed`, or `None` for the Euclidean metric. A key is used with the features and columns
        that the metric was learned on; an object goes through genes as in :func:`gml.tl.transform`.
    reference
        Other cells: distances are then from the patients of `adata` to those of `reference`, whose metric is used.
    groupby
        Column of ``adata.obs``, such as ``"cell_type"``: besides the distances over all cells also those over the
        cells of each group alone, under the same metric, each patient being the distribution of their cells of this
        group. How many cells of a group a patient has does not count then, only what they are like. Cells without a
        group (NaN) count in the distances over all cells only.
    patient_key
        Column of ``adata.obs`` that names the patient of each cell.
    disease_key
        Column of ``adata.obs`` with the disease, constant within a patient. May be absent.
    use_rep, layer
        Features, as in :func:`gml.tl.learn_metric`, for a metric that was not learned.
    gene_symbols
        Column of ``adata.var`` with the names of genes as the metric, or `reference`, knows them. `None` takes the one
        that :func:`gml.tl.transform` was given for this metric, or else ``adata.var_names``.
    solver
        How patients are compared, as in :func:`gml.tl.learn_metric`; :mod:`gml.solvers` says what each one costs.
    power
        Exponent q of the ground cost, 1 or 2; `None` is the metric's own, 1 if it was not learned.
    n_points
        Each patient is represented by at most this many weighted k-means points; `None` takes every cell. Gaussian,
        sliced and centroid solvers read every cell, which is recorded as `None`.
    neighbors_only
        Only the distances to so many nearest patients, which is far cheaper for thousands of patients: lower bounds
        tell who cannot be among them, the others are solved, so that neighbours and distances are exact. For power 1
        and a learned metric, the Euclidean one, or one that is Euclidean after features are scaled (``"seuclidean"``,
        ``"mahalanobis"``), without `reference` and `groupby`.
    key_added
        Name of the result.
    rng
        Seed, or a generator from which one is drawn; the seed is stored.
    n_jobs
        Threads (or workers of the joblib backend in use); `None` takes all cores. The result does not depend on it.

    Returns
    -------
    Patients × genes, one row per patient, sorted by name:

    `.X`
        Mean of ``adata.X`` over the cells of a patient, dense (p, n_genes), so that genes colour plots of patients.
    `.obs`
        `n_cells`, the disease, every other column of ``adata.obs`` that is constant within patients, and
        `noise_floor`: the distance between two random halves of the patient's cells, NaN for a single cell and for a
        sketch. Distances of that size are sampling noise; they grow as cells get fewer.
    ``.obsp[key_added + "_distances"]``
        Distances (p, p), float64: symmetric, non-negative, zero on the diagonal; in units of the features under the
        Euclidean metric, relative to the scatter within diseases under a learned one.
    ``.obsm["X_" + key_added + "_mds"]``
        Classical multidimensional scaling of the distances (of their roots for q = 2), shape (p, at least 2).
    ``.obsp[key_added + "_distances"]``, ``.obsm["X_" + key_added + "_means"]``
        With `neighbors_only` these take the place of distances and MDS: a sparse (p, p) matrix with the distances of
        the nearest patients in each row, and the means of the patients in the space of the ground metric, (p, k).
        :func:`gml.pp.neighbors` reads them.
    ``.uns[key_added]``
        `params`, everything needed to repeat the call, and in `genes` which genes of the metric were found, as in
        :func:`gml.tl.transform`; `loss` of the learned metric, and `sketch_error`: the mean
        ground cost from a cell to the point that stands for it, 0 if all cells are taken, NaN for the points of
        :func:`gml.pp.sketch`, Gaussians and centroids. With `neighbors_only` also `n_solved`, the number of pairs that
        were solved; with Sinkhorn `convergence`: the iterations of the slowest pair (`n_iter`), the largest share of
        the mass that a plan misses (`residual`), and the pairs that did not reach the tolerance (`n_open`).
    ``.obsm[key_added + "_distances"]``, ``.uns[key_added]["reference"]``
        With `reference` these take the place of `.obsp` and MDS: distances (p, p_reference), and the names of the
        reference patients in the order of the columns.
    ``.obsp[f"{key_added}_{group}_distances"]``, ``.obsm[f"X_{key_added}_{group}_mds"]``
        With `groupby` the same for every group of cells (a ``/`` in its name becomes ``_``), so that
        ``f"{key_added}_{group}"`` is a `key` for :func:`gml.pp.neighbors` and :mod:`gml.pl`. Rows and columns of
        patients without cells of the group are NaN. With `reference` ``.obsm[f"{key_added}_{group}_distances"]``, for
        the groups of `adata`.
    ``.uns[f"{key_added}_{group}"]``
        `params` with `groupby` and `group`, `sketch_error`, and `n_cells` and `noise_floor` in this group, shapes
        (p,), of the `patients` that are named there; with `reference` also its names.

    Raises
    ------
    KeyError
        If the metric, a column, layer or representation is missing.
    ValueError
        If a cell has no patient, a patient two diseases, the features are not finite or do not fit the metric, the
        names of two groups cannot be told apart, `adata` is a sketch and has groups, or the solver stops early. For
        genes of unseen cells as :func:`gml.tl.transform`.
    MemoryError
        Before the work, if points or distances cannot fit into the memory of this machine.

    Warns
    -----
    UserWarning
        If distances follow the noise of few cells (`noise_floor`) more than the disease, or if the sketch error
        exceeds twice the median distance; once for all cells, and once for the groups. For unseen cells as
        :func:`gml.tl.transform`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None)
    >>> patients.obsp["gml_distances"].shape
    (6, 6)
    """
    patients, *_ = compare_patients(
        adata,
        reference,
        metric=metric,
        groupby=groupby,
        patient_key=patient_key,
        disease_key=disease_key,
        use_rep=use_rep,
        layer=layer,
        gene_symbols=gene_symbols,
        solver=solver,
        power=power,
        n_points=n_points,
        neighbors_only=neighbors_only,
        key_added=key_added,
        rng=rng,
        n_jobs=n_jobs,
    )
    return patients


def compare_patients(  # noqa: PLR0913 (all arguments of two public functions)
    adata: AnnData,
    reference: AnnData | None,
    *,
    metric: Metric,
    patient_key: str,
    disease_key: str,
    use_rep: UseRep,
    layer: str | None,
    gene_symbols: str | None,
    solver: SolverName | Solver,
    power: Power | None,
    n_points: int | None,
    key_added: str,
    rng: int | np.random.Generator | None,
    n_jobs: int | None,
    labelled: bool = True,
    neighbors_only: int | None = None,
    groupby: str | None = None,
) -> tuple[AnnData, Yardstick, Measured, Measured | None]:
    """The result of :func:`patient_distances`, what it was measured with, and the measured patients and reference."""
    check_anndata(adata)
    if reference is not None:
        check_anndata(reference, name="reference")
    solver_settings = resolve_solver(solver)
    if power is not None:
        check_choice(power, name="power", choices=[1, 2])
    check_key_added(key_added)
    check_n_jobs(n_jobs)
    check_n_points(n_points)
    seed = check_seed(rng)

    stick = yardstick(metric, holders=(adata,) if reference is None else (reference, adata), estimated=True)
    ground = stick.ground(stick.power if power is None else power)
    _check_neighbors_only(neighbors_only, ground, reference, groupby=groupby, solver=solver_settings)
    _check_solver(solver_settings, ground, groupby=groupby)
    if neighbors_only is None:
        _check_distances_fit(stick, adata, reference, patient_key=patient_key)
    groups = None if groupby is None else read_groups(adata, reference, groupby, key_added=key_added)
    settings: dict[str, Any] = {"n_points": n_points, "seed": seed, "n_jobs": n_jobs}
    one, other = measure_against(
        adata,
        reference,
        stick,
        patient_key=patient_key,
        disease_key=disease_key,
        use_rep=use_rep,
        layer=layer,
        gene_symbols=gene_symbols,
        labelled=labelled,
        solver=solver_settings,
        **settings,
    )
    stick, one, other = scaled(stick, one, other)
    patients = patients_from(adata, one)
    if groups is not None:
        groups.check(patients, one.cohort)
    solve: dict[str, Any] = {"ground": ground, "solver": solver_settings, "n_jobs": n_jobs}
    floor = noise_floor(one, stick, ground=ground, solver=solver_settings, **settings)
    patients.obs[NOISE_FLOOR] = floor
    keys = Keys(key_added)
    patient_key, disease = keys_of(adata, stick, patient_key=patient_key, disease_key=disease_key)
    params = {
        "patient_key": patient_key,
        "disease_key": disease,
        "use_rep": one.cohort.features.rep,
        "layer": one.cohort.features.layer,
        "gene_symbols": gene_symbols,
        "metric": stick.name,
        "metric_kind": stick.kind,
        "metric_params": {} if stick.learned is None else stick.learned.params,
        "power": ground.power,
        "solver": solver_name(solver_settings),
        "solver_settings": asdict(solver_settings),
        "n_points": used_points(solver_settings, n_points),
        "neighbors_only": neighbors_only,
        "groupby": groupby,
        "rng": seed,
    }
    if one.cohort.features.match is not None:
        params |= one.cohort.features.match.params
    error = sketch_error(one, stick, ground=ground)
    patients.uns[keys.run] = {"params": params, "sketch_error": error}
    if stick.learned is not None:
        patients.uns[keys.run]["loss"] = stick.learned.loss
    if neighbors_only is None:
        distances = _solve_all(patients, one, other, keys=keys, **solve)
        if other is None:
            warn_of_sizes(distances, floor, one.cohort)
            warn_of_sketch(distances, error, n_points=n_points)
    else:
        k = min(neighbors_only, len(one.cohort) - 1)
        nearest = nearest_patients(one.clouds, k, solver=cast("Exact", solver_settings), n_jobs=n_jobs)
        patients.obsp[keys.distances] = nearest.graph()
        patients.obsm[keys.means] = stick.embed(one.points.means())
        patients.uns[keys.run]["n_solved"] = nearest.n_solved
    if groups is not None:
        measure_groups(
            patients,
            one,
            other,
            groups=groups,
            stick=stick,
            params=params,
            ground=ground,
            solver=solver_settings,
            **settings,
        )
    return patients, stick, one, other


def _solve_all(
    patients: AnnData,
    one: Measured,
    other: Measured | None,
    *,
    keys: Keys,
    ground: Ground,
    solver: Solver,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Store all distances, and how an iterative solver ended; the distances."""
    ended: list[Convergence] = []
    solve: dict[str, Any] = {"ground": ground, "solver": solver, "n_jobs": n_jobs, "ended": ended}
    if other is None:
        distances = distances_within(one, **solve)
        patients.obsp[keys.distances] = distances
        patients.obsm[keys.mds] = classical_mds(distances ** (1 / ground.power))
    else:
        distances = distances_between(one, other, **solve)
        patients.obsm[keys.distances] = distances
        patients.uns[keys.run]["reference"] = other.cohort.patients
    if (how := worst(ended)) is not None:
        patients.uns[keys.run]["convergence"] = asdict(how)
    return distances


def _check_solver(solver: Solver, ground: Ground, *, groupby: str | None) -> None:
    """Whether the solver is defined for the ground metric, and for each group of cells."""
    if isinstance(solver, Gaussian | Sliced) and ground.metric != "euclidean":
        msg = (
            f"solver={solver_name(solver)!r} is defined for the Euclidean and learned metrics only, got the metric "
            f"{ground.metric!r}; take solver='exact' or 'sinkhorn'."
        )
        raise ValueError(msg)
    if isinstance(solver, Centroids) and groupby is not None:
        msg = (
            f"`groupby` must be None with solver='centroids', got {groupby!r}: within one cell type there is nothing "
            "left to transport; take solver='exact'."
        )
        raise ValueError(msg)


def _check_neighbors_only(
    neighbors_only: int | None, ground: Ground, reference: AnnData | None, *, groupby: str | None, solver: Solver
) -> None:
    """Whether the nearest patients can be found by lower bounds."""
    if neighbors_only is None:
        return
    check_int(neighbors_only, name="neighbors_only")
    if reference is not None or groupby is not None:
        asked = "groupby" if reference is None else "reference"
        msg = f"`neighbors_only` must be None with `{asked}`, got {neighbors_only}: all those distances are taken."
        raise ValueError(msg)
    if not isinstance(solver, Exact):
        msg = f"neighbors_only={neighbors_only} needs solver='exact', got {solver!r}; leave it out for all distances."
        raise ValueError(msg)
    if ground.power != 1 or ground.metric != "euclidean":
        msg = (
            f"neighbors_only={neighbors_only} needs power=1 and the Euclidean or a learned metric, got "
            f"power={ground.power} and the metric {metric_name(ground.metric)!r}; leave it out to take all distances."
        )
        raise ValueError(msg)


def _check_distances_fit(stick: Yardstick, adata: AnnData, reference: AnnData | None, *, patient_key: str) -> None:
    """Raise before the work if the distances cannot be held."""
    holders = [adata] if reference is None else [adata, reference]
    sizes = [len(patients_of_cells(some, stick.key_for(some, patient_key, default=PATIENT))[1]) for some in holders]
    n, m = sizes[0], sizes[-1]
    check_memory(
        3 * 8 * n * m,  # the distances, and the numbers of both patients of each
        what=f"Distances between {n} and {m} patients",
        advice="Pass `neighbors_only` for those to the nearest patients.",
    )


def patients_from(adata: AnnData, one: Measured) -> AnnData:
    """Patients × genes: mean genes, number of cells, and what else is known of each patient."""
    cohort = one.cohort
    obs = constant_columns(adata, cohort.rows).set_axis(pd.Index(cohort.patients.astype(object)), axis=0)
    obs = obs.assign(**{N_CELLS: cohort.n_cells})
    x = None
    if adata.X is not None:
        x = average(cohort.averaging(adata.n_obs), numeric_matrix(adata.X, name="adata.X"))
    patients = ad.AnnData(X=x, obs=obs, var=get_var(adata))
    patients.uns |= colors_of(adata, obs.columns)
    return patients
