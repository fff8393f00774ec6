"""How sure the order of genes is: patients drawn anew, and diseases exchanged between patients."""

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
FEWEST = round(1 / LEVEL)  # assignments of diseases among which one can be rare enough
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
    """Columns of importance and of the components (`name`_1, …), each shape (g,), with what was asked for beside them.

    Genes must be in the order in which ties are broken.
    """
    importance, _ = resampling.read(Replicate.of(design), resampling.learned)
    of_components = resampling.reading.of_components(resampling.learned)
    found: dict[str, NDArray[Any]] = {"importance": importance}
    entries = {f"{name}_{c}": column for c, column in enumerate(of_components.T, start=1)}
    if n_bootstrap:
        n_top = int(np.clip(len(importance) // 10, 1, MOST_TOP)) if n_top is None else n_top
        drawn, drawn_components = _bootstrap(resampling, design, n=n_bootstrap, rng=generators[0], n_jobs=n_jobs)
        found |= _interval("importance", importance, drawn) | {"stability": _leading(drawn, n_top)}
        for c in range(drawn_components.shape[2]):
            entries |= _interval(f"{name}_{c + 1}", of_components[:, c], drawn_components[:, :, c])
    if n_permutations:
        found |= _permutations(resampling, design, n=n_permutations, rng=generators[1], n_jobs=n_jobs)
    if n_bootstrap and n_permutations:
        found["stable"] = (found["stability"] >= STABILITY) & (found["p_adjusted"] <= LEVEL)
        found["stable"] &= n_bootstrap >= FEWEST_DRAWN
    return found | entries


def _interval(name: str, middle: NDArray[np.float64], drawn: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Both ends, from bootstraps, shape (n, g). Their percentiles would be off centre: drawn patients are fewer."""
    half = WIDTH * drawn.std(axis=0)
    return {f"{name}_low": middle - half, f"{name}_high": middle + half}


def _leading(importance: NDArray[np.float64], n_top: int) -> NDArray[np.float64]:
    """Share of bootstraps, shape (n, g), in which a gene is among the first, and not by a part of 0 or less."""
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
            "There are too few patients to exchange their diseases: %d permutations hold %d different ones. No p-value "
            "is below %.2g, and no gene is called stable.",
            n,
            n_ways,
            1 / n_ways,
        )
    replicates = list(different.values())  # the true diseases first
    found = np.array([one.importance for one in read_replicates(resampling, replicates, n_components=0, n_jobs=n_jobs)])
    # genes that vary more between patients vary more by chance; in standard deviations all are alike
    deviation = found.std(axis=0)
    values = np.divide(found - found.mean(axis=0), deviation, out=np.zeros_like(found), where=deviation > 0)
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
            "There are too few patients to draw them anew: %d bootstraps hold %d different ones. Intervals are too "
            "narrow, and `stability` is too high.",
            n,
            n_ways,
        )
    found = list(read_replicates(resampling, replicates, n_components=MOST_INTERVALS, n_jobs=n_jobs))
    return np.array([one.importance for one in found]), np.array([one.of_components for one in found])


def _fingerprint(replicate: Replicate, resampling: Resampling) -> bytes:
    """The same for assignments of diseases that compare the same patients in the same way."""
    within, between = replicate.weights(resampling.displacements.pairs, resampling.target, balanced=False)
    return (np.round(between - within, 12) + 0.0).tobytes()
