"""Learn the ground metric of a cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gml._anndata import DISEASE, PATIENT, Columns, check_anndata, check_key_added, find_gene_map
from gml._base import check_int, warn
from gml._cohort import Work
from gml._evaluate import learn_any
from gml._measure import ResolvedMetric, check_key_is_free, embed_cells, measure, params_of, read_study, store_metric
from gml._metric import GroundMetric, check_solver, with_signs
from gml._mudata import takes_mudata
from gml.methods import Fixed, method_name, resolve_method, settings_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from gml._anndata import GeneMap, UseRep
    from gml._cohort import Cohort
    from gml._metric import Fit
    from gml.methods import AnyMethod, MethodName
    from gml.solvers import Solver, SolverName


@takes_mudata
def learn_metric(
    adata: AnnData,
    *,
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    donor_key: str | None = None,
    batch_key: str | None = None,
    use_rep: UseRep = None,
    layer: str | None = None,
    method: MethodName | AnyMethod = "auto",
    solver: SolverName | Solver = "exact",
    n_components: int | None = None,
    n_points: int | None = 64,
    key_added: str = "gml",
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> None:
    r"""Learn the ground metric under which patients of different diseases lie far apart.

    Each patient is the distribution of their cells. Only the disease of the patients is used, never a label of cells.
    The metric is a linear map :math:`L`, the ground distance of two cells :math:`\lVert L (x - x') \rVert_2`
    :cite:p:`Kuehn2025`.

    The default chooses between the Euclidean metric and learned ones on held-out patients; the table of the choice is
    in ``uns[key_added]["choice"]``. To evaluate the metric on new patients use :func:`gml.tl.cross_validate`.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>` whose modalities share their cells; its results lie in its own
        slots. Only the slots below are written.
    patient_key
        Column of ``adata.obs`` that names the patient of each cell.
    disease_key
        Column of ``adata.obs`` with the disease, constant within a patient. Patients without one (NaN) are not used.
        Numbers and ordered categories are taken as classes unless the method has ``target="ordered"``.
    donor_key
        Column of ``adata.obs`` that names the donor, where one donor gave several patients (samples). Patients of
        different diseases are then compared within a donor, and patients of the same disease between donors, wherever
        there are such pairs, so that differences between people are not learned.
    batch_key
        Column of ``adata.obs`` with the batch of each patient: compared within and between in the same way, so that
        differences between batches are not learned.
    use_rep
        Features to learn on: a key of ``adata.obsm``, or ``"X"`` for genes (the highly variable ones, if marked).
        `None` takes ``"X_pca"`` if it is there, else genes. What was taken is stored. Of a MuData, `None` takes all
        modalities, each by this rule; ``{"rna": "X_pca", "prot": "X"}`` chooses, ``"rna"`` takes one, and a key of
        ``mdata.obsm`` a representation of all. Several modalities stand side by side, each divided by its total
        standard deviation over all cells.
    layer
        Layer with the genes, instead of ``adata.X``.
    method
        ``"auto"``, ``"triplet"``, ``"discriminant"`` or ``"euclidean"``, or settings: :class:`gml.methods.Auto`,
        :class:`gml.methods.Triplet`, :class:`gml.methods.Discriminant`.
    solver
        How patients are compared: ``"exact"``, ``"sinkhorn"``, ``"gaussian"``, ``"centroids"`` or ``"partial"``, or
        settings from :mod:`gml.solvers`; ``"sliced"`` only for a method that is not learned.
    n_components
        Rows k of :math:`L`, at most the number of features. `None` leaves it to the method: 5 for triplet, the number
        of diseases but at least two for discriminant (all, if it includes whitening or the Euclidean metric), for which
        it is an upper bound.
    n_points
        Each patient is represented by at most this many weighted k-means points; `None` takes every cell. It serves
        exact, partial and Sinkhorn transport; the other solvers read every cell, which is recorded as `None`.
    key_added
        Name of the result.
    rng
        Seed, or a generator from which one is drawn; the seed is stored.
    n_jobs
        Threads (or workers of the joblib backend in use); `None` takes all cores, unless
        :func:`joblib.parallel_config` says otherwise. The result does not depend on it.

    Returns
    -------
    `None`; it writes

    ``adata.uns[key_added]``
        The metric: `components` (k, d), `feature_names` (d,), `classes`, `patients` it was learned from, `loss` per
        pass, `spectrum` of the closed form, `params`, `choice` with ``"auto"``, `gene_map`, the way from genes to
        features, if there is one, and `modalities` of a MuData: what was taken of each, its scale, and its share in
        the squared distances between cells under the metric. Read it with :func:`gml.get.metric`.
    ``adata.obsm["X_" + key_added]``
        Cells in the learned space, shape (n_cells, k).
    ``adata.varm[key_added]``
        Genes × components, shape (n_genes, k), zero for genes that were not used. Only for features that come from
        genes: genes themselves, or a representation that ``adata.X`` times a matrix of ``adata.varm`` gives, up to a
        constant, such as ``X_pca`` with its ``varm["PCs"]``.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError
        If a cell has no patient, a patient two diseases, the features are not finite, there are not two diseases of
        which one has two patients, the solver gives distances only (``"sliced"``), or a setting is out of range.
    MemoryError
        Before the work, if points or plans cannot fit into the memory of this machine.

    Warns
    -----
    UserWarning
        If a batch has one disease only, if a method finds no difference between diseases, if the loss of a later pass
        is NaN or without bounds, where learning stops with the best map so far, or if all later passes of `Triplet`
        are worse than the first (with ``init="discriminant"``, more than twice as bad).

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method=gml.methods.Triplet(max_iter=5))
    >>> adata.obsm["X_gml"].shape
    (180, 2)
    """
    check_anndata(adata)
    method_settings = resolve_method(method)
    check_key_added(key_added)
    columns = Columns(patient_key, disease_key, donor_key, batch_key, use_rep=use_rep, layer=layer)
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    check_solver(work.solver, [method_settings])

    cohort = read_study(adata, columns, work, method=method_settings)
    features = cohort.features
    check_key_is_free(adata, key_added, features.rep)
    _check_method(method_settings, n_components, n_features=len(features.names))
    _warn_of_batches(cohort)
    gene_map = find_gene_map(adata, features)
    points = measure(cohort, ResolvedMetric(), work).points
    fit, learned, choice = learn_any(points, cohort.design, method_settings, n_components=n_components, work=work)
    params = params_of(columns, features, work)
    params |= _params(columns, method_settings, learned) | {"n_components": n_components, "power": learned.power}
    metric = _as_metric(fit, cohort, gene_map, params=params, choice=choice)
    store_metric(adata, metric, embed_cells(features, metric, adata.n_obs), key_added=key_added)


def _as_metric(
    fit: Fit, cohort: Cohort, gene_map: GeneMap | None, *, params: dict[str, Any], choice: pd.DataFrame | None
) -> GroundMetric:
    """The learned map, with signs by which the largest loading of each component is positive."""
    loadings = fit.components.T if gene_map is None else gene_map.loadings(fit.components)
    return GroundMetric(
        components=with_signs(fit.components, loadings),
        feature_names=cohort.features.names,
        classes=cohort.classes,
        params=params,
        loss=fit.loss,
        spectrum=fit.spectrum,
        patients=cohort.patients,
        choice=choice,
        gene_map=gene_map,
    )


def _params(columns: Columns, method: AnyMethod, learned: AnyMethod) -> dict[str, Any]:
    """Parameters of learning: the method that was given, and the one that learned."""
    design = {"donor_key": columns.donor, "batch_key": columns.batch}
    given = {"method": method_name(method), "method_settings": settings_of(method)}
    learner = {"learned_by": method_name(learned), "learned_settings": settings_of(learned)}
    return design | given | learner | {"transformed": False}


def _warn_of_batches(cohort: Cohort) -> None:
    """Warn of batches with one disease only, which cannot be distinguished from the disease."""
    batches, labels = cohort.design.batches, cohort.labels
    if batches is None:
        return
    if n_alone := sum(len(np.unique(labels[batches == batch])) < 2 for batch in batches):
        warn(
            f"{n_alone} of {len(labels)} patients are in a batch with one disease only. They are compared across "
            "batches, so differences between these batches may be learned as disease."
        )


def _check_method(method: AnyMethod, n_components: int | None, *, n_features: int) -> None:
    """Raise unless the method makes a map, of so many rows."""
    if isinstance(method, Fixed) and method.name != "euclidean":
        call = "gml.tl.patient_distances(adata, metric=gml.methods.Fixed(...))"
        msg = f"`method` must learn a map or be the Euclidean metric, got {method!r}. Distances under it: {call}."
        raise ValueError(msg)
    if n_components is None:
        return
    if check_int(n_components, name="n_components") > n_features:
        msg = f"`n_components` must be at most the number of features, {n_features}, got {n_components}."
        raise ValueError(msg)
    if isinstance(method, Fixed):
        msg = f"`n_components` must be None with {method!r}, which is not learned, got {n_components}."
        raise ValueError(msg)
