"""Cells by which patients differ from those of other diseases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import DISEASE, PATIENT, Columns, Keys, check_anndata, check_key_added, write_all
from gml._base import check_int
from gml._cohort import Design, Work
from gml._measure import check_diseases, measure_cells, resolve_metric
from gml._metric import can_teach, learning_pairs
from gml._mudata import takes_mudata
from gml._ot import transport
from gml.methods import MAX_PAIRS
from gml.solvers import resolve_exact

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort
    from gml._measure import Measured
    from gml.solvers import Exact, ExactName

MOST_EDGES = 4_000_000  # of plans that are held at once


@takes_mudata
def score_cells(
    adata: AnnData,
    *,
    metric: str = "gml",
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    solver: ExactName | Exact = "exact",
    n_points: int | None = 64,
    max_pairs: int | None = MAX_PAIRS,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> None:
    r"""How much each cell makes its patient unlike the patients of other diseases.

    The plan from patient p to patient q moves the mass :math:`a_i` of cell i to cells j, at the mean cost

    .. math:: c_i(q) = \frac{1}{a_i} \sum_j \pi_{ij} \, d_L(x_i, x_j)^q

    with the power q of the metric. The score is the mean of :math:`c_i` over the patients of other diseases, less its
    mean over the other patients of the same disease. Large scores mark cells that have a counterpart in their own
    disease and none in others; scores around 0 mark cells that are as unusual in either. The mean score of the cells of
    a patient is the mean distance to patients of other diseases less that to patients of the same disease. If the
    metric was learned with donors (`donor_key`), samples of one donor are not compared with each other.

    The metric was learned to make this mean large, so scores of its training patients are positive even with random
    labels, but then of equal size in all cell types. So compare cell types with each other; for a test score unseen
    patients after :func:`gml.tl.transform`: with random labels their mean is around 0.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, with a learned metric, in memory or on disk, or a sketch of
        :func:`gml.pp.sketch`. Only the column below is written; where ``adata.obs`` lies on disk, it changes in memory
        only.
    metric
        The `key_added` of :func:`gml.tl.learn_metric` or :func:`gml.tl.transform`, whose columns, features and power
        are used.
    patient_key, disease_key, solver, n_jobs
        As in :func:`gml.tl.barycenter`.
    n_points
        Each patient is represented by at most this many weighted k-means points, and cells have the score of their
        point; `None` takes every cell, which is exact.
    max_pairs
        Most pairs of patients that are transported, `None` for all. Of more pairs, each patient keeps as many at random
        with its own disease as with the others, which are weighted as in the whole.
    rng
        Seed of points and pairs, or a generator from which one is drawn.

    Returns
    -------
    `None`; it writes ``adata.obs[metric + "_score"]``, shape (n_cells,), float64, in units of the distances, ready for
    ``sc.pl.umap(adata, color="gml_score")``. NaN for cells of patients without a disease, of the only patient (or
    donor) of a disease, for whom there is nothing to compare with, and of patients whom `max_pairs` leaves no pair.

    Raises
    ------
    KeyError
        If the metric, a column, layer or representation is missing.
    ValueError
        If there are not two diseases of which one has two patients.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> gml.tl.score_cells(adata)
    >>> adata.obs["gml_score"].shape
    (180,)
    """
    check_anndata(adata)
    check_key_added(metric, name="metric")
    if max_pairs is not None:
        check_int(max_pairs, name="max_pairs")
    exact = resolve_exact(solver)
    work = Work.checked(solver=exact, n_points=n_points, rng=rng, n_jobs=n_jobs)
    resolved = resolve_metric(metric, holders=(adata,))
    columns = Columns(patient_key, disease_key)
    check_diseases(adata, resolved, columns)
    measured = measure_cells(adata, resolved, columns=columns, work=work, design=True)
    _check_diseases(measured.cohort)
    pairs = _draw_pairs(measured.cohort, max_pairs, seed=work.seed)
    of_points = _score_points(measured, pairs, solver=exact, n_jobs=work.n_jobs)
    points, scores = measured.points, np.full(adata.n_obs, np.nan)
    scores[points.rows] = of_points[points.point_of_row]
    write_all(adata, {("obs", Keys(metric).score): scores})


def _check_diseases(cohort: Cohort) -> None:
    """Raise unless there are pairs of patients of the same and of different diseases."""
    labels = cohort.labels[cohort.known]
    if not can_teach(labels):
        counts = zip(cohort.classes, np.bincount(labels, minlength=len(cohort.classes)), strict=True)
        numbers = ", ".join(f"{str(name)!r}: {count}" for name, count in counts)
        msg = f"Scores need two diseases, one of them with two patients, got {numbers} (patients)."
        raise ValueError(msg)


def _draw_pairs(cohort: Cohort, max_pairs: int | None, *, seed: int) -> NDArray[np.intp]:
    """Pairs of patients of different donors that have a disease, `max_pairs` at most, shape (n_pairs, 2)."""
    patients, donors = cohort.known, cohort.design.groups
    design, rng = Design(cohort.labels[patients]), np.random.default_rng(seed)
    pairs = patients[learning_pairs(design, target="classes", max_pairs=max_pairs, rng=rng)]
    of_two_donors: NDArray[np.intp] = pairs[donors[pairs[:, 0]] != donors[pairs[:, 1]]]
    return of_two_donors


def _score_points(
    measured: Measured, pairs: NDArray[np.intp], *, solver: Exact, n_jobs: int | None
) -> NDArray[np.float64]:
    """Score of each point, shape (n,); a few pairs at a time, so that not all plans are held at once."""
    clouds, ground = measured.clouds, measured.metric.ground()
    weights, is_known = _weights(pairs, measured.cohort.labels)
    moved = np.zeros(len(clouds.z))
    sizes = np.diff(clouds.start)
    step = max(1, MOST_EDGES // int(2 * sizes.max()))
    for first in range(0, len(pairs), step):
        block = slice(first, first + step)
        plans = transport(clouds, pairs[block], ground=ground, solver=solver, plans=True, n_jobs=n_jobs)
        cost = plans.mass * plans.cost
        for ends, of_pairs in zip((plans.source, plans.target), weights[block].T, strict=True):
            moved += np.bincount(ends, np.repeat(of_pairs, plans.n_edges) * cost, minlength=len(moved))
    return np.where(np.repeat(is_known, sizes), moved / clouds.weights, np.nan)


def _weights(pairs: NDArray[np.intp], labels: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Weight of each pair in the scores of both patients, (n_pairs, 2), and whether a patient has a score, (p,).

    For each patient, weights between diseases have sum 1, with shares of the other diseases by their numbers of
    patients, and weights within the disease sum -1.
    """
    patient, partner = np.concatenate([pairs, pairs[:, ::-1]]).T
    n_classes = labels.max() + 1
    drawn = np.zeros((len(labels), n_classes))
    np.add.at(drawn, (patient, labels[partner]), 1.0)
    is_far = labels[patient] != labels[partner]
    size = np.bincount(labels[labels >= 0], minlength=n_classes)
    weights = np.where(is_far, size[labels[partner]], 1.0) / drawn[patient, labels[partner]]
    total = np.bincount(patient, weights * is_far, len(labels))
    weights = np.where(is_far, weights / np.where(total > 0, total, 1.0)[patient], -weights)
    is_known = (labels >= 0) & (total > 0) & (drawn[np.arange(len(labels)), labels] > 0)
    return weights.reshape(2, -1).T, is_known
