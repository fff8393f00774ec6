"""Who trains and who is tested: splits by patient, or by donor where one donor gave several samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

TEST_SHARE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Positions of training and test patients."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def random_splits(
    labels: NDArray[np.intp], donors: NDArray[np.intp], n_splits: int, *, rng: np.random.Generator
) -> list[Split]:
    """Stratified 70/30 splits that keep the patients of a donor together.

    Donors are drawn within groups that have the same diseases; donors that are alone with their set of diseases form
    one group. Every disease stays in training. (scikit-learn splits by stratum or by group, not both.)
    """
    groups = strata(labels, donors)
    splits = []
    for _ in range(n_splits):
        tested: list[int] = []
        for members in groups:
            n_test = min(max(1, round(TEST_SHARE * len(members))), len(members) - 1)
            tested += rng.permutation(members)[:n_test].tolist()
        tested = _keep_diseases(tested, labels, donors)
        is_test = np.isin(donors, tested)
        splits.append(Split(np.flatnonzero(~is_test), np.flatnonzero(is_test)))
    if not all(len(split.test) for split in splits):
        msg = "No patient can be held out: every disease has only one patient (or donor)."
        raise ValueError(msg)
    return splits


def strata(labels: NDArray[np.intp], donors: NDArray[np.intp]) -> list[list[int]]:
    """Donors that have the same diseases; those that are alone with theirs come together, if there are several."""
    found: dict[tuple[int, ...], list[int]] = {}
    for donor in np.unique(donors):
        found.setdefault(tuple(np.unique(labels[donors == donor])), []).append(int(donor))
    groups = [members for members in found.values() if len(members) > 1]
    alone = [members[0] for members in found.values() if len(members) == 1]
    return [*groups, alone] if alone else groups


def _keep_diseases(tested: list[int], labels: NDArray[np.intp], donors: NDArray[np.intp]) -> list[int]:
    """The tested donors without those whose disease would be missing from training."""
    kept = list(tested)
    for donor in tested:
        training = labels[~np.isin(donors, kept)]
        if not np.isin(labels[donors == donor], training).all():
            kept.remove(donor)
    return kept


def named_splits(
    splits: Iterable[tuple[Iterable[object], Iterable[object]]], patients: NDArray[np.str_], donors: NDArray[np.intp]
) -> list[Split]:
    """Splits that the user gives as (training patients, test patients), by name."""
    position = {str(name): index for index, name in enumerate(patients)}
    result = []
    for number, split in enumerate(splits):
        try:
            train, test = split
        except (TypeError, ValueError):
            msg = f"`splits` must hold pairs of (training patients, test patients); number {number} is {split!r}."
            raise ValueError(msg) from None
        sides = []
        for side, names in (("training", train), ("test", test)):
            texts = [str(name) for name in names]
            if unknown := [name for name in texts if name not in position]:
                msg = (
                    f"Split {number} names {side} patients that are not there, e.g. {unknown[0]!r} "
                    "(patients without a disease take no part)."
                )
                raise ValueError(msg)
            if not texts:
                msg = f"Split {number} has no {side} patients."
                raise ValueError(msg)
            sides.append(np.array(sorted({position[name] for name in texts}), dtype=np.intp))
        if np.isin(donors[sides[0]], donors[sides[1]]).any():
            msg = f"Split {number} has the same patient or donor in training and in test."
            raise ValueError(msg)
        result.append(Split(*sides))
    if not result:
        msg = "`splits` is empty."
        raise ValueError(msg)
    return result
