"""Compare patients as distributions of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._anndata import DISEASE, PATIENT, Columns, Keys, check_anndata, check_key_added
from gml._base import check_choice, check_int, metric_name
from gml._cohort import Work
from gml._measure import (
    check_distances_fit,
    describe_patients,
    measure_both,
    measure_groups,
    read_groups,
    resolve_metric,
    store_distances,
)
from gml._mudata import takes_mudata
from gml._ot import check_ground, check_types_apart, nearest_patients
from gml.solvers import Exact, resolve_exact

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData

    from gml._anndata import UseRep
    from gml._measure import Groups, Measured, Metric
    from gml._ot import Ground
    from gml.methods import Power
    from gml.solvers import Solver, SolverName


@takes_mudata
def patient_distances(  # noqa: PLR0913 (one argument per column, and what all distances share)
    adata: AnnData,
    *,
    metric: Metric = "gml",
    reference: AnnData | None = None,
    cell_type_key: str | None = None,
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
    cell_type_key
        Column of ``adata.obs`` with cell types (or clusters): besides the distances over all cells also those over the
        cells of each type alone, under the same metric, each patient being the distribution of their cells of this
        type, whatever their number. Cells without a type (NaN) count in the distances over all cells only.
    patient_key, disease_key
        As in :func:`gml.tl.learn_metric`. The disease may be absent.
    use_rep, layer
        Features, as in :func:`gml.tl.learn_metric`, for a metric that was not learned.
    gene_symbols
        Column of ``adata.var`` with the names of genes as the metric, or `reference`, knows them. `None` takes the one
        that :func:`gml.tl.transform` was given for this metric, or else ``adata.var_names``.
    solver
        How patients are compared, as in :func:`gml.tl.learn_metric`; :mod:`gml.solvers` says what each one costs.
    power
        Exponent q of the ground cost, 1 or 2; `None` is the metric's own, 1 if it was not learned.
    neighbors_only
        Only the exact distances to so many nearest patients, far cheaper for thousands of patients, since lower bounds
        exclude most pairs. For power 1 and a learned metric, the Euclidean one, or one that is Euclidean after features
        are scaled (``"seuclidean"``, ``"mahalanobis"``), without `reference` and `cell_type_key`.
    key_added, n_points, rng, n_jobs
        As in :func:`gml.tl.learn_metric`.

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
    ``.obsp[f"{key_added}_{cell_type}_distances"]``, ``.obsm[f"X_{key_added}_{cell_type}_mds"]``
        With `cell_type_key` the same for every cell type (a ``/`` in its name becomes ``_``), so that
        ``f"{key_added}_{cell_type}"`` is a `key` for :func:`gml.pp.neighbors` and :mod:`gml.pl`. Rows and columns of
        patients without cells of the type are NaN. With `reference` ``.obsm[f"{key_added}_{cell_type}_distances"]``,
        for the types of `adata`.
    ``.uns[f"{key_added}_{cell_type}"]``
        `params` with `cell_type_key` and `cell_type`, `sketch_error`, and `n_cells` and `noise_floor` in this type,
        shapes (p,), of the `patients` that are named there; with `reference` also its names.

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
    check_anndata(adata)
    holders = [adata] if reference is None else [check_anndata(reference, name="reference"), adata]
    check_choice(power, name="power", choices=[1, 2, None])
    check_key_added(key_added)
    columns = Columns(patient_key, disease_key, use_rep=use_rep, layer=layer)
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    resolved = resolve_metric(metric, holders=holders, estimated=True)
    ground = resolved.ground(power)
    _check_neighbors_only(neighbors_only, ground, reference, cell_type_key=cell_type_key, solver=work.solver)
    check_ground(work.solver, ground)
    if neighbors_only is None:
        check_distances_fit(adata, reference, resolved, columns=columns)
    if cell_type_key is not None:
        check_types_apart(work.solver)
    groups = None if cell_type_key is None else read_groups(adata, reference, cell_type_key, key_added=key_added)

    query, source = measure_both(adata, reference, resolved, columns=columns, work=work, gene_symbols=gene_symbols)
    more = {"gene_symbols": gene_symbols, "neighbors_only": neighbors_only, "cell_type_key": cell_type_key}
    patients = describe_patients(adata, query, columns, key_added=key_added, ground=ground, work=work, more=more)
    return _store(
        patients, query, source, groups=groups, nearest=neighbors_only, key=key_added, ground=ground, work=work
    )


def _check_neighbors_only(
    neighbors_only: int | None, ground: Ground, reference: AnnData | None, *, cell_type_key: str | None, solver: Solver
) -> None:
    """Raise unless lower bounds can find the nearest patients."""
    if neighbors_only is None:
        return
    check_int(neighbors_only, name="neighbors_only")
    if reference is not None or cell_type_key is not None:
        argument = "cell_type_key" if reference is None else "reference"
        msg = f"`neighbors_only` must be None with `{argument}`, got {neighbors_only}: all those distances are taken."
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


def _store(
    patients: AnnData,
    query: Measured,
    source: Measured | None,
    *,
    groups: Groups | None,
    nearest: int | None,
    key: str,
    ground: Ground,
    work: Work,
) -> AnnData:
    """Solve and store all distances and those of groups, or the distances to so many `nearest` patients."""
    keys = Keys(key)
    if groups is not None:
        groups.check(patients, query.cohort)
    if nearest is None:
        store_distances(patients, query, source, key_added=key, ground=ground, work=work)
    else:
        n, exact = min(nearest, len(query.cohort) - 1), resolve_exact(work.solver)
        solved = nearest_patients(query.clouds, n, solver=exact, n_jobs=work.n_jobs)
        patients.obsp[keys.distances] = solved.graph()
        patients.obsm[keys.means] = query.metric.embed(query.points.means())
        patients.uns[keys.run]["n_solved"] = solved.n_solved
    if groups is not None:
        measure_groups(patients, query, source, groups=groups, key_added=key, ground=ground, work=work)
    return patients
