"""The closed form: the directions in which patients of different diseases are moved further than alike ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh

from ._comparison import learning_pairs
from ._displacements import Displacements, spanned_axes
from ._fit import Fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import Discriminant

logger = logging.getLogger(__name__)

MIN_EXCESS = 1e-8  # eigenvalues below it are rounding
MOST_AXES = 50  # on which whitening and the Euclidean metric are kept


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one round of plans gives, on the axes of the displacements."""

    components: NDArray[np.float64]
    """Rows of the map, shape (k, r); none if nothing was found."""
    spectrum: NDArray[np.float64]
    """All eigenvalues, falling, shape (r,)."""
    loss: float
    """Mean squared distance within diseases over that between diseases."""


def fit_discriminant(
    points: Points, design: Design, settings: Discriminant, *, n_components: int | None, work: Work
) -> Fit:
    """Solve the generalised eigenproblem of :class:`gml.methods.Discriminant`, once per round of plans.

    `n_components` is an upper bound: fewer rows may be found, or none. `None` takes as many directions of disease as
    there are diseases, at least two, and all rows of what is put below them. The loss of a round is the mean squared
    distance within diseases over that between diseases, under the metric of the round (the Euclidean one, if nothing
    was found).
    """
    rng = np.random.default_rng(work.seed)
    pairs = learning_pairs(design, target=settings.target, max_pairs=settings.max_pairs, rng=rng)
    euclidean = Displacements.solve(points, work=work, pairs=pairs, packs=settings.shrinkage == "auto")
    patients = np.arange(len(points))
    return fit_displacements(
        euclidean, design, patients=patients, settings=settings, n_components=n_components, work=work
    )


def fit_displacements(
    euclidean: Displacements,
    design: Design,
    *,
    patients: NDArray[np.intp],
    settings: Discriminant,
    n_components: int | None,
    work: Work,
) -> Fit:
    """As :func:`fit_discriminant`, of some `patients` whose `design` it is, from plans that are there already."""
    leading = leading_axes(euclidean, patients)
    displacements, parts = euclidean, list[Part]()
    for _ in range(settings.rounds):
        if parts:
            packs = settings.shrinkage == "auto"
            displacements = displacements.under(parts[-1].components, work=work, packs=packs)
        shrinkage = settings.shrinkage
        if shrinkage == "auto":
            shrinkage = displacements.shrinkage(design, patients, settings)
            logger.debug("discriminant: shrinkage %.3f", shrinkage)
        part = closed_form(
            *displacements.scatters(design, patients, settings),
            settings=settings,
            shrinkage=shrinkage,
            leading=leading,
            n_components=n_components,
            n_directions=count_directions(design, settings, n_components),
        )
        parts.append(part)
        if len(part.components) == 0:
            break
        logger.debug("discriminant: %d components, within / between %.4g", len(part.components), part.loss)
    return Fit(parts[-1].components @ euclidean.basis, np.array([part.loss for part in parts]), parts[-1].spectrum)


def count_directions(design: Design, settings: Discriminant, n_components: int | None) -> int:
    """Directions of disease that are looked for."""
    n_classes = len(np.unique(design.labels)) if settings.target == "classes" else 0
    return max(2, n_classes) if n_components is None else n_components


def leading_axes(displacements: Displacements, patients: NDArray[np.intp]) -> NDArray[np.float64]:
    """The axes on which whitening and the Euclidean metric act, shape (l, r)."""
    r = len(displacements.basis)
    if r <= MOST_AXES:
        return np.eye(r)
    # of these patients, others have no part in it
    return spanned_axes(displacements.points.of(patients), MOST_AXES)


def closed_form(
    within: NDArray[np.float64],
    between: NDArray[np.float64],
    *,
    settings: Discriminant,
    shrinkage: float,
    leading: NDArray[np.float64],
    n_components: int | None,
    n_directions: int,
) -> Part:
    """The directions of disease of two scatters (r, r), and what is put below them on the `leading` axes, (l, r)."""
    r = len(within)
    sphere = np.trace(within) / r * np.eye(r)
    # patients of a disease may be exactly alike, or span fewer directions than there are
    floor = np.finfo(np.float64).eps * r * np.trace(within + between) * np.eye(r)
    right = (1 - shrinkage) * within + shrinkage * sphere + floor
    components, spectrum = _directions(between - within, right, n_components=n_directions)
    parts = [(settings.directions, components)] if settings.directions and len(components) else []
    if settings.whitening:
        values, vectors = eigh(leading @ right @ leading.T)
        parts.append((settings.whitening, (vectors / np.sqrt(values)).T @ leading))
    if settings.euclidean:
        parts.append((settings.euclidean, leading))
    if not parts:
        return Part(components, spectrum, float(np.trace(within) / np.trace(between)))
    total = within + between
    unit = _trace(parts[0][1], total)  # of all three metrics: the mean squared distance of patients under the first
    components = np.vstack([np.sqrt(weight * unit / _trace(rows, total)) * rows for weight, rows in parts])
    if n_components is not None and (settings.whitening or settings.euclidean):
        # the rows that keep most of the mean squared distance of patients
        _, vectors = eigh(components @ total @ components.T)
        components = vectors[:, ::-1][:, :n_components].T @ components
    return Part(components, spectrum, _trace(components, within) / _trace(components, between))


def _directions(
    excess: NDArray[np.float64], right: NDArray[np.float64], *, n_components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Rows :math:`\sqrt{\mu} v` of the largest :math:`\mu > 0`, at most `n_components`, and all :math:`\mu`."""
    mu, v = eigh(excess, right)
    mu, v = mu[::-1], v[:, ::-1]
    n_kept = int((mu[:n_components] > MIN_EXCESS).sum())
    return (np.sqrt(mu[:n_kept]) * v[:, :n_kept]).T, mu


def _trace(components: NDArray[np.float64], matrix: NDArray[np.float64]) -> float:
    return float(np.einsum("kr,rs,ks->", components, matrix, components))
