"""Does disease explain the distances? Statistics of distances and labels, and labels that are permuted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import numpy as np
from scipy.stats import rankdata

from gml._metric import Candidate, Displacements, random_pairs, relearn, scaling
from gml._ot import Clouds, Ground, distances_among
from gml.methods import Auto, Discriminant, Fixed, Triplet

from ._select import few_points, inner_folds, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import AnyMethod, Method

Statistic: TypeAlias = Literal["held_out", "permanova", "anosim", "mantel"]
N_SPLITS = 5  # of the held-out statistic


def permanova(distances: NDArray[np.float64], design: Design) -> float:
    r"""Pseudo-F :cite:p:`Anderson2001`: variance between diseases over variance within, from distances alone.

    .. math:: F = \frac{(S_t - S_w) / (a - 1)}{S_w / (p - a)}, \quad
        S_t = \frac1p \sum_{i<j} d_{ij}^2, \quad S_w = \sum_c \frac1{p_c} \sum_{i<j \in c} d_{ij}^2

    for p patients of a diseases, shape (p, p).
    """
    squared, labels = distances**2, design.labels
    total = squared.sum() / 2 / len(labels)
    counts = np.bincount(labels)
    same = labels[:, None] == labels
    within = float((squared * same / counts[labels]).sum() / 2)
    a = int((counts > 0).sum())
    if within == 0:
        return float("inf") if total > 0 else 0.0
    return float((total - within) / (a - 1) / (within / (len(labels) - a)))


def anosim(distances: NDArray[np.float64], design: Design) -> float:
    r"""R :cite:p:`Clarke1993`: mean rank of distances between diseases less that within, over half the pairs.

    1 if every distance between diseases exceeds every one within, about 0 if diseases say nothing.
    """
    upper = np.triu_indices(len(distances), 1)
    ranks = rankdata(distances[upper])
    same = (design.labels[:, None] == design.labels)[upper]
    return float((ranks[~same].mean() - ranks[same].mean()) / (len(ranks) / 2))


def mantel(distances: NDArray[np.float64], design: Design) -> float:
    """Correlation of the distances with the gaps in an ordered disease :cite:p:`Mantel1967`."""
    upper = np.triu_indices(len(distances), 1)
    values = np.zeros(len(distances)) if design.values is None else design.values
    return float(np.corrcoef(distances[upper], np.abs(values[:, None] - values)[upper])[0, 1])


STATISTICS: dict[str, Callable[[NDArray[np.float64], Design], float]] = {
    "permanova": permanova,
    "anosim": anosim,
    "mantel": mantel,
}


def permute(design: Design, rng: np.random.Generator) -> Design:
    """The design with diseases exchanged between patients that could have had the other's disease.

    Within a batch, if batches are known. Samples of one donor that differ in disease exchange it among themselves; a
    donor whose samples all have one disease exchanges it as a whole with other such donors.
    """
    p = len(design)
    batches = np.zeros(p, dtype=np.intp) if design.batches is None else design.batches
    source = np.arange(p)  # whose disease each patient gets
    donors, first = np.unique(design.groups, return_index=True)
    is_mixed = np.array([len(np.unique(design.labels[design.groups == donor])) > 1 for donor in donors])
    for donor in donors[is_mixed]:
        for batch in np.unique(batches):
            members = np.flatnonzero((design.groups == donor) & (batches == batch))
            source[members] = rng.permutation(members)
    uniform, first = donors[~is_mixed], first[~is_mixed]
    alike: dict[tuple[int, ...], list[int]] = {}  # donors by the batches that they are in
    for number, donor in enumerate(uniform):
        alike.setdefault(tuple(np.unique(batches[design.groups == donor])), []).append(number)
    for same in alike.values():
        for donor, giver in zip(same, rng.permutation(same), strict=True):
            source[design.groups == uniform[donor]] = first[giver]
    values = None if design.values is None else design.values[source]
    return replace(design, labels=design.labels[source], values=values)


def permuted_designs(design: Design, statistic: Statistic, n_permutations: int, *, seed: int) -> list[Design]:
    """The true design and its permutations, of which at least one must differ from it."""
    rng = np.random.default_rng(seed)
    permuted = [permute(design, rng) for _ in range(n_permutations)]
    read = "values" if statistic == "mantel" else "labels"
    if all(np.array_equal(getattr(design, read), getattr(drawn, read)) for drawn in permuted):
        msg = (
            "No two patients can exchange their diseases within the donors or batches given; there is nothing to test."
        )
        raise ValueError(msg)
    return [design, *permuted]


def check_testable(method: AnyMethod, statistic: Statistic, design: Design) -> Method:
    """The method, if the statistic can be computed with it."""
    if isinstance(method, Auto):
        msg = "`method` must not be 'auto', which would choose anew in every permutation; name one method."
        raise ValueError(msg)
    is_ordered = isinstance(method, Discriminant | Triplet) and method.target == "ordered"
    if statistic == "mantel" and design.values is None:
        msg = "statistic='mantel' needs a disease column of numbers or of ordered categories."
        raise ValueError(msg)
    if is_ordered and statistic != "mantel":
        msg = f"A method with target='ordered' is tested with statistic='mantel', got {statistic!r}."
        raise ValueError(msg)
    if statistic == "held_out" and isinstance(method, Fixed) and method.name != "euclidean":
        msg = f"statistic='held_out' needs a metric that is a map of features, got {method!r}; take 'permanova'."
        raise ValueError(msg)
    return method


@dataclass(frozen=True, slots=True, eq=False)
class LabelTest:
    """What every permutation needs."""

    points: Points
    candidate: Candidate
    statistic: Statistic
    work: Work
    displacements: Displacements | None = None
    fixed: NDArray[np.float64] | None = None
    """Distances that do not depend on the labels, (p, p)."""

    @classmethod
    def prepare(cls, points: Points, method: Method, statistic: Statistic, *, work: Work) -> Self:
        """Compute what is the same under all permutations: distances without learning, or the plans of learning."""
        fixed = displacements = None
        if statistic == "held_out":
            points = few_points(points, work)
        if isinstance(method, Fixed) and statistic != "held_out":
            clouds = Clouds.of(points, scaling(points, method))  # which knows no labels
            fixed = distances_among(clouds, ground=Ground(metric=method.ground), work=work)
        elif isinstance(method, Discriminant):
            pairs = random_pairs(len(points), method.max_pairs, np.random.default_rng(work.seed))
            displacements = Displacements.solve(points, work=work, pairs=pairs)
        return cls(points, Candidate("", method), statistic, work.sequential(), displacements, fixed)

    def value(self, design: Design) -> float:
        """The statistic under one assignment of diseases."""
        if self.statistic == "held_out":
            return self._held_out(design)
        distances, power = self.fixed, 1
        if distances is None:
            components = relearn(
                np.arange(len(self.points)),
                points=self.points,
                design=design,
                candidate=self.candidate,
                displacements=self.displacements,
                work=self.work,
            )
            power = self.candidate.method.power
            clouds = Clouds.of(self.points, components)
            distances = distances_among(clouds, ground=Ground(power=power), work=self.work)
        return STATISTICS[self.statistic](distances ** (1 / power), design)

    def _held_out(self, design: Design) -> float:
        folds = inner_folds(design, N_SPLITS, np.random.default_rng(self.work.seed))
        if not folds:
            msg = "There are too few patients for statistic='held_out': a training side cannot teach; take 'permanova'."
            raise ValueError(msg)
        scores = judge(
            self.points,
            design,
            candidates=[self.candidate],
            folds=folds,
            work=self.work,
            displacements=self.displacements,
        )
        return float(scores.mean())
