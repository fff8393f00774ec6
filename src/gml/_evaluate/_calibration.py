"""Probabilities that hold for new patients, and how far away a new patient may be.

A learned metric draws together the patients that it was learned from, so what it says about them says little about new
ones. Here every reference patient is measured under a metric that was learned without them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from gml._base import parallel
from gml._metric import Candidate, Displacements, can_teach, learning_pairs, relearn
from gml._ot import Clouds, Ground, engine_of, pair_distances, pairs_between
from gml.methods import Discriminant
from gml.solvers import Exact

from ._readouts import knn_probabilities
from ._splits import strata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import Method

N_FOLDS = 5
N_POINTS = 64  # of a patient that teach, by exact plans, where the solver gives distances only
SPREAD = 0.5  # standard deviation of log T before any patient is seen
MOST = 100.0  # temperature; the least is one over it


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What reference patients that were held out say about new ones."""

    temperature: float
    """T of :func:`temper`: above 1, votes promise too much; below 1, too little."""
    n_held_out: int
    """Patients that it was found with."""
    log_loss: float
    """Their mean -log(probability of the true class), with this temperature."""
    log_loss_chance: float
    """The same if all were given the shares of the classes among them."""
    reject_distance: float
    """How far from the nearest reference patient a new patient may be, see :func:`reject_distance`."""


def fit_calibration(
    distances: NDArray[np.float64], labels: NDArray[np.intp], *, n_classes: int, n_neighbors: int
) -> Calibration | None:
    """Judge held-out patients by the votes of the others.

    Parameters
    ----------
    distances
        Held-out distances, shape (p, p): row i as if patient i were new, infinite to those that may not vote.
    labels
        Class of each patient, shape (p,); -1 where it is unknown.

    Returns
    -------
    The calibration; `None` if there is no patient with a voter of their own class.
    """
    known = labels >= 0
    votes = np.isfinite(distances) & known
    judged = np.flatnonzero(known & (votes & (labels[:, None] == labels)).any(axis=1))
    if not judged.size:
        return None
    truth = labels[judged]
    far_away = np.nan_to_num(distances[np.ix_(judged, known)])  # whose vote is 0
    shares = knn_probabilities(far_away, labels[known], n_classes=n_classes, n_neighbors=n_neighbors)
    smooth = smooth_votes(shares, np.minimum(n_neighbors, votes[judged].sum(axis=1)))
    temperature = find_temperature(smooth, truth)
    frequencies = np.bincount(truth, minlength=n_classes) / len(truth)
    return Calibration(
        temperature=temperature,
        n_held_out=len(judged),
        log_loss=mean_log_loss(temper(smooth, temperature), truth),
        log_loss_chance=mean_log_loss(np.tile(frequencies, (len(truth), 1)), truth),
        reject_distance=reject_distance(distances),
    )


def smooth_votes(shares: NDArray[np.float64], n_votes: int | NDArray[np.intp]) -> NDArray[np.float64]:
    r"""Votes with one more vote that all classes share, so that no class is impossible.

    .. math:: q_c = \frac{n p_c + 1 / C}{n + 1}

    Parameters
    ----------
    shares
        Shares of the votes :math:`p`, shape (p, C), rows sum to 1.
    n_votes
        Number of votes :math:`n`, of all patients or of each, shape (p,).
    """
    n = np.reshape(n_votes, (-1, 1))
    return np.asarray((n * shares + 1 / shares.shape[1]) / (n + 1))


def temper(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    r"""Temperature scaling :cite:p:`Guo2017`: the order of the classes stays.

    .. math:: p_c = q_c^{1 / T} / \sum_{c'} q_{c'}^{1 / T}

    Parameters
    ----------
    probabilities
        Positive :math:`q`, shape (p, C).
    temperature
        :math:`T`; 1 changes nothing, large values make all classes alike.
    """
    return np.exp(log_softmax(np.log(probabilities) / temperature, axis=1))


def mean_log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.intp]) -> float:
    r"""Mean of :math:`-\log p_{i y_i}`, for probabilities (p, C) and labels (p,)."""
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def find_temperature(probabilities: NDArray[np.float64], labels: NDArray[np.intp]) -> float:
    r"""The temperature under which held-out patients are most likely.

    .. math:: \min_T \; -\sum_i \log p_{i y_i}(T) + \frac{(\log T)^2}{2 \sigma^2}, \quad \sigma = 1/2

    The second term keeps few patients from saying much: a dozen that are all right do not make new ones certain, nor do
    a dozen at chance make the votes worthless. With many patients the first term decides.

    Parameters
    ----------
    probabilities
        Smoothed votes, shape (p, C).
    labels
        True class of each patient, shape (p,).
    """

    def loss(log_temperature: float) -> float:
        tempered = temper(probabilities, float(np.exp(log_temperature)))
        return mean_log_loss(tempered, labels) + log_temperature**2 / (2 * SPREAD**2 * len(labels))

    bounds = (-np.log(MOST), np.log(MOST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def reject_distance(distances: NDArray[np.float64]) -> float:
    """How far from their nearest patient new patients may be: the largest such distance, and a standard deviation.

    Beyond the largest of n distances alone, one in n + 1 patients of the same kind would be found.

    Parameters
    ----------
    distances
        Held-out distances, shape (p, p); infinite where patients may not be compared, as with themselves.
    """
    nearest = distances.min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    return float(nearest.max() + nearest.std()) if nearest.size else float("inf")


def without_self(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (p, p) under a metric that was not learned, as held-out ones: infinite on the diagonal."""
    return np.where(np.eye(len(distances), dtype=bool), np.inf, distances)


def cross_fit(
    points: Points, design: Design, method: Method, *, train: NDArray[np.bool_], n_components: int | None, work: Work
) -> NDArray[np.float64] | None:
    """Distances of every patient under a metric that was learned without them.

    Parameters
    ----------
    points, design
        All patients, also those without a disease.
    train
        Patients that the metric is learned from, shape (p,).

    Returns
    -------
    Shape (p, p), row i under the metric that was learned without patient i; infinite to themselves and to those held
    out with them. `None` if nobody can be held out, or too few remain to learn from.
    """
    folds = cross_folds(design, N_FOLDS, np.random.default_rng(work.seed))
    learned_from = np.flatnonzero(train)
    kept = [np.flatnonzero(~np.isin(learned_from, test)) for test in folds]
    points_of_train, design_of_train = points.of(learned_from), design.of(learned_from)
    if not folds or not all(can_teach(design_of_train.labels[patients]) for patients in kept):
        return None
    displacements, learning = None, work
    if not engine_of(work.solver).learns:
        points_of_train = points_of_train.coarser(N_POINTS, seed=work.seed)
        learning = replace(work, solver=Exact())
    if isinstance(method, Discriminant):  # whose plans serve all folds
        rng = np.random.default_rng(work.seed)
        pairs = learning_pairs(design_of_train, target=method.target, max_pairs=method.max_pairs, rng=rng)
        displacements = Displacements.solve(points_of_train, work=learning, pairs=pairs)
    learn_without = partial(
        relearn,
        points=points_of_train,
        design=design_of_train,
        candidate=Candidate("again", method, n_components),
        displacements=displacements,
        work=learning.sequential(),
    )
    maps = list(parallel(learn_without, kept, n_jobs=work.n_jobs, description="learning without some patients"))
    distances = np.full((len(points), len(points)), np.inf)
    for test, components in zip(folds, maps, strict=True):
        pairs = pairs_between(test, np.setdiff1d(np.arange(len(points)), test))
        clouds = Clouds.of(points, components)
        solved = pair_distances(clouds, pairs, ground=Ground(power=method.power), work=work)
        distances[pairs[:, 0], pairs[:, 1]] = solved.distances
    return distances


def cross_folds(design: Design, n_folds: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Patients that are held out together: donors whole, every disease spread over the folds.

    A disease of one donor stays in training, and in no fold. No folds if there are only such.
    """
    n_donors = {label: len(np.unique(design.groups[design.labels == label])) for label in np.unique(design.labels)}
    dealt = [
        donor
        for members in strata(design.labels, design.groups)
        for donor in rng.permutation(members)
        if min(n_donors[label] for label in design.labels[design.groups == donor]) > 1
    ]
    folds = [dealt[first::n_folds] for first in range(min(n_folds, len(dealt)))]
    return [np.flatnonzero(np.isin(design.groups, fold)) for fold in folds]
