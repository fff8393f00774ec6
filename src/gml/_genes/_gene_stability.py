"""Uncertainty of the order of genes: bootstraps of patients, and permutations of their diseases."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._evaluate import permute
from gml._metric import Replicate, draw_patients, read_replicates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design
    from gml._metric import Resampling

logger = logging.getLogger(__name__)

MOST_INTERVALS = 5  # components whose entries get an interval
WIDTH = 1.96  # standard deviations on either side of a 95 % interval
MOST_TOP = 50
ROUNDING = 1e-9  # of the largest value
STABILITY, LEVEL = 0.9, 0.02  # of a gene that is called stable
FEWEST = round(1 / LEVEL)  # different assignments of diseases for a p-value of that level
FEWEST_DRAWN = 20  # different bootstraps


def assess(
    resampling: Resampling,
    design: Design,
    *,
    name: str,
    n_bootstrap: int,
    n_permutations: int,
    n_top: int | None,
    generators: tuple[np.random.Generator, np.random.Generator],
    n_jobs: int | None,
) -> dict[str, NDArray[Any]]:
    """Columns of importance and of the components (`name`_1, …), each shape (g,), with intervals and p-values.

    Genes must be in the order in which ties are broken.
    """
    importance, _ = resampling.read(Replicate.of(design), resampling.learned)
    of_components = resampling.reading.of_components(resampling.learned)
    columns: dict[str, NDArray[Any]] = {"importance": importance}
    entries = {f"{name}_{c}": column for c, column in enumerate(of_components.T, start=1)}
    if n_bootstrap:
        n_top = int(np.clip(len(importance) // 10, 1, MOST_TOP)) if n_top is None else n_top
        drawn, drawn_components = _bootstrap(resampling, design, n=n_bootstrap, rng=generators[0], n_jobs=n_jobs)
        columns |= _interval("importance", importance, drawn) | {"stability": _leading(drawn, n_top)}
        for c in range(drawn_components.shape[2]):
            entries |= _interval(f"{name}_{c + 1}", of_components[:, c], drawn_components[:, :, c])
    if n_permutations:
        columns |= _permutations(resampling, design, n=n_permutations, rng=generators[1], n_jobs=n_jobs)
    if n_bootstrap and n_permutations:
        columns["stable"] = (columns["stability"] >= STABILITY) & (columns["p_adjusted"] <= LEVEL)
        columns["stable"] &= n_bootstrap >= FEWEST_DRAWN
    return columns | entries


def _interval(name: str, middle: NDArray[np.float64], drawn: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Both ends, from bootstraps, shape (n, g); percentiles would be biased, as fewer different patients are drawn."""
    half = WIDTH * drawn.std(axis=0)
    return {f"{name}_low": middle - half, f"{name}_high": middle + half}


def _leading(importance: NDArray[np.float64], n_top: int) -> NDArray[np.float64]:
    """Share of bootstraps, shape (n, g), in which a gene is among the first with an importance above 0."""
    is_top = np.zeros(importance.shape, dtype=bool)
    np.put_along_axis(is_top, np.argsort(-importance, axis=1, kind="stable")[:, :n_top], values=True, axis=1)
    return np.asarray((is_top & (importance > 0)).mean(axis=0))


def _permutations(
    resampling: Resampling, design: Design, *, n: int, rng: np.random.Generator, n_jobs: int | None
) -> dict[str, NDArray[np.float64]]:
    """`p_value` and `p_adjusted`, each shape (g,)."""
    drawn = [Replicate.of(design), *(Replicate.of(permute(design, rng)) for _ in range(n))]
    different: dict[bytes, Replicate] = {}
    for replicate in drawn:
        different.setdefault(_fingerprint(replicate, resampling), replicate)
    if (n_ways := len(different)) < FEWEST <= 1 + n:
        logger.warning(
            f"There are too few patients to exchange their diseases: {n} permutations hold {n_ways} different ones. No "
            f"p-value is below {1 / n_ways:.2g}, and no gene is called stable."
        )
    replicates = list(different.values())  # the true diseases first
    readings = read_replicates(resampling, replicates, n_components=0, n_jobs=n_jobs)
    importance = np.array([reading.importance for reading in readings])
    # genes that vary more between patients vary more by chance: compared in standard deviations
    deviation, centred = importance.std(axis=0), importance - importance.mean(axis=0)
    values = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    observed, null = values[0] - ROUNDING * np.abs(values).max(initial=0.0), values[1:]
    return {
        "p_value": (1 + (null >= observed).sum(axis=0)) / n_ways,
        "p_adjusted": (1 + (null.max(axis=1)[:, None] >= observed).sum(axis=0)) / n_ways,
    }


def _bootstrap(
    resampling: Resampling, design: Design, *, n: int, rng: np.random.Generator, n_jobs: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Importance, shape (n, g), and the first components, shape (n, g, c), for patients that are drawn anew."""
    replicates = [draw_patients(design, resampling.target, rng) for _ in range(n)]
    n_ways = len({replicate.counts.tobytes() for replicate in replicates})
    if n_ways < FEWEST_DRAWN <= n:
        logger.warning(
            f"There are too few patients to draw them anew: {n} bootstraps hold {n_ways} different ones. Intervals are "
            "too narrow, and `stability` is too high."
        )
    readings = list(read_replicates(resampling, replicates, n_components=MOST_INTERVALS, n_jobs=n_jobs))
    return np.array([each.importance for each in readings]), np.array([each.of_components for each in readings])


def _fingerprint(replicate: Replicate, resampling: Resampling) -> bytes:
    """Equal for assignments of diseases with the same comparisons of patients."""
    within, between = replicate.weights(resampling.displacements.pairs, resampling.target, balanced=False)
    return (np.round(between - within, 12) + 0.0).tobytes()
