"""Choosing among candidates on patients that are held out of training."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gml._base import parallel
from gml._metric import Candidate, Displacements, Fit, can_teach, compare, learn, relearn
from gml._ot import Clouds, Ground, distances_among, pairs_between
from gml.methods import Auto, Discriminant, Fixed, Triplet

from ._splits import random_splits
from ._table import corrected_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import AnyMethod, Method

    from ._splits import Split

logger = logging.getLogger(__name__)

MOST_PATIENTS = 100  # that take part in a choice; with more, the candidates hardly differ
MOST_POINTS = 32  # of a patient in a choice; exact transport of 64 takes four times as long
FEWEST_PATIENTS = 12  # with fewer, held-out scores are noise and the first candidate is taken unseen


#: What ``method="auto"`` compares. The first one is kept unless another is better by more than one standard error.
AUTO = (
    Candidate(
        "discriminant + whitening + euclidean", Discriminant(shrinkage="auto", whitening=1, euclidean=1, balanced=True)
    ),
    Candidate("euclidean", Fixed("euclidean")),
    Candidate("whitening", Discriminant(shrinkage=0.3, directions=0, whitening=1, balanced=True)),
    Candidate("discriminant", Discriminant(shrinkage=0.5, balanced=True)),
    Candidate("discriminant + whitening", Discriminant(shrinkage=0.1, whitening=1, balanced=True)),
)
TRIPLET = Candidate("triplet", Triplet(max_iter=10))


def learn_any(
    points: Points,
    design: Design,
    method: AnyMethod,
    *,
    n_components: int | None,
    work: Work,
    few: Points | None = None,
) -> tuple[Fit, Method, pd.DataFrame | None]:
    """Learn by any method; the method that was taken, and with ``"auto"`` what the choice was made from.

    `few` are the same patients as :func:`few_points` has them, if they are there already.
    """
    if not isinstance(method, Auto):
        return learn(points, design, method, n_components=n_components, work=work), method, None
    few = few_points(points, work) if few is None else few
    chosen, table = choose(few, design, method, n_components=n_components, work=work)
    return learn(points, design, chosen, n_components=n_components, work=work), chosen, table


def few_points(points: Points, work: Work) -> Points:
    """The points on which a method is chosen."""
    return points.coarser(MOST_POINTS, seed=work.seed)


def choose(
    few: Points, design: Design, auto: Auto, *, n_components: int | None, work: Work
) -> tuple[Method, pd.DataFrame | None]:
    """The method that ``"auto"`` takes, and the table of the choice; no table if there are too few patients."""
    compared = (*AUTO, TRIPLET) if auto.triplet else AUTO
    candidates = [replace(candidate, n_components=n_components) for candidate in compared]
    table, best = search({None: few}, design, candidates, n_splits=auto.n_splits, work=work)
    return candidates[best].method, table


def search(
    points: Mapping[int | None, Points], design: Design, candidates: Sequence[Candidate], *, n_splits: int, work: Work
) -> tuple[pd.DataFrame | None, int]:
    """The table of the choice and the position of the chosen candidate; no table if there are too few patients.

    `points` are those of the patients in `design`, by the `n_points` of the candidates.
    """
    rng = np.random.default_rng(work.seed)
    patients = np.arange(len(design))
    if len(design) > MOST_PATIENTS:
        patients = _stratified(design, MOST_PATIENTS, rng)
        logger.info("the choice is made on %d of %d patients", len(patients), len(design))
        design = design.of(patients)
    folds = inner_folds(design, n_splits, rng) if len(design) >= FEWEST_PATIENTS else []
    if not folds:
        logger.info("too few patients to hold some out; takes %s", candidates[0].name)
        return None, 0
    scores = np.empty((len(folds), len(candidates)))
    for n_points, all_points in points.items():
        columns = [number for number, candidate in enumerate(candidates) if candidate.n_points == n_points]
        same = [candidates[number] for number in columns]
        scores[:, columns] = judge(all_points.of(patients), design, candidates=same, folds=folds, work=work)
    table, best = pick(scores, candidates, folds)
    logger.info("takes %s\n%s", candidates[best].name, table.to_string(index=False, float_format="%.3f"))
    return table, best


def pick(
    scores: NDArray[np.float64], candidates: Sequence[Candidate], folds: Sequence[Split]
) -> tuple[pd.DataFrame, int]:
    """The first candidate, unless another one is better by more than one standard error of their difference.

    Of several, the one that is better by most standard errors. The error is corrected for splits that overlap. Plainly
    the best mean would be a worse choice: it follows the noise of few patients.

    Returns the table of the choice, and the position of the chosen one.
    """
    ratio = float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))
    gain = scores - scores[:, :1]
    errors = np.array([corrected_error(column, ratio) for column in gain.T])
    mean = gain.mean(axis=0)
    z = np.divide(mean, errors, out=np.where(mean > 0, np.inf, 0.0), where=errors > 0)  # inf: the same gain everywhere
    best = int(z.argmax()) if z.max() > 1 else 0
    table = pd.DataFrame(
        {
            "candidate": [candidate.name for candidate in candidates],
            "auc": scores.mean(axis=0),
            "gain": mean,
            "gain_error": np.nan_to_num(errors),
            "chosen": np.arange(len(candidates)) == best,
        }
    )
    return table, best


def judge(
    points: Points,
    design: Design,
    *,
    candidates: Sequence[Candidate],
    folds: Sequence[Split],
    work: Work,
    displacements: Displacements | None = None,
) -> NDArray[np.float64]:
    """How often a held-out patient is nearer to a training patient of their own disease than to one of another.

    Shape (n_folds, n_candidates): means over held-out patients of the share of pairs (alike, unlike) of training
    patients in the right order. Donors and batches restrict the pairs as they do in learning.
    """
    if displacements is None and any(isinstance(candidate.method, Discriminant) for candidate in candidates):
        displacements = Displacements.solve(points, work=work)
    tasks = [(fold, candidate) for fold in folds for candidate in candidates]
    score = partial(_judge, points=points, design=design, displacements=displacements, work=work.sequential())
    scores = list(parallel(score, tasks, n_jobs=work.n_jobs, description="choosing the method"))
    return np.array(scores).reshape(len(folds), len(candidates))


def _judge(
    task: tuple[Split, Candidate], *, points: Points, design: Design, displacements: Displacements | None, work: Work
) -> float:
    fold, candidate = task
    components = relearn(
        fold.train, points=points, design=design, candidate=candidate, displacements=displacements, work=work
    )
    clouds, ground = Clouds.of(points, components), Ground(power=candidate.method.power)
    distances = distances_among(clouds, pairs=pairs_between(fold.test, fold.train), ground=ground, work=work)
    return _order(distances, design, fold)


def _order(distances: NDArray[np.float64], design: Design, fold: Split) -> float:
    """Share of pairs of training patients in the right order, mean over held-out patients."""
    comparison = compare(design, among=np.isin(np.arange(len(design)), fold.train))
    shares = []
    for anchor in fold.test:
        near, far = distances[anchor, comparison.near[anchor]], distances[anchor, comparison.far[anchor]]
        if len(near) and len(far):
            shares.append(((near[:, None] < far).mean() + (near[:, None] <= far).mean()) / 2)
    return float(np.mean(shares)) if shares else 0.5


def inner_folds(design: Design, n_splits: int, rng: np.random.Generator) -> list[Split]:
    """Splits of training patients; none if nobody can be held out, or some training side is too small to learn from."""
    try:
        splits = random_splits(design.labels, design.groups, n_splits, rng=rng)
    except ValueError:
        return []
    return splits if all(can_teach(design.labels[split.train]) for split in splits) else []


def _stratified(design: Design, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """About n patients, donors together, every disease by its share."""
    place = design.shuffled(rng)
    n_all = int(place.max()) + 1
    n_groups = max(2, round(n * n_all / len(design)))
    return np.flatnonzero(np.isin(place, np.linspace(0, n_all - 1, n_groups).astype(np.intp)))
