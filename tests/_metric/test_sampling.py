"""Which pairs of patients are transported when all would be too many."""

import numpy as np
import pytest

from gml._cohort import Work
from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._metric._comparison import compare, learning_pairs, limit_pairs, random_pairs
from gml._metric._discriminant import fit_discriminant
from gml._ot import Clouds
from gml._ot._simplex import solve_pairs
from gml.methods import Discriminant
from gml.solvers import Exact

LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def limited(max_pairs: int | None, seed: int = 0, design: Design | None = None):
    design = Design(LABELS) if design is None else design
    return limit_pairs(compare(design), design.labels, max_pairs=max_pairs, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("max_pairs", [None, 4950, 10_000])
def test_nothing_is_drawn_where_all_pairs_are_allowed(max_pairs: int | None) -> None:
    comparison = limited(max_pairs)
    np.testing.assert_array_equal(comparison.near, compare(Design(LABELS)).near)
    np.testing.assert_array_equal(comparison.far, compare(Design(LABELS)).far)


@pytest.mark.parametrize("max_pairs", [2, 30, 150, 1000, 4000])
def test_never_more_pairs_than_allowed(max_pairs: int) -> None:
    n = len(limited(max_pairs).pairs)
    assert 0.4 * max_pairs <= n <= max_pairs


def test_every_patient_and_every_disease_takes_part_alike() -> None:
    """1,000 pairs are 5 near and 5 far patients for each of 100; the far ones are dealt between two diseases."""
    comparison = limited(1000)
    assert (comparison.near.sum(axis=1) >= 5).all()
    assert (comparison.far.sum(axis=1) >= 5).all()
    of_first = comparison.far[LABELS == 0]  # who draw 2 or 3 of either other disease, though one has 30 and one 10
    assert of_first[:, LABELS == 1].sum(axis=1).min() >= 2
    assert of_first[:, LABELS == 2].sum(axis=1).min() >= 2


def test_pairs_serve_both_patients_and_are_allowed_ones() -> None:
    comparison, full = limited(500), compare(Design(LABELS))
    np.testing.assert_array_equal(comparison.near, comparison.near.T)
    np.testing.assert_array_equal(comparison.far, comparison.far.T)
    assert not (comparison.near & ~full.near).any()
    assert not (comparison.far & ~full.far).any()


def test_restrictions_of_donors_are_kept() -> None:
    donors = np.arange(100) // 2
    labels = np.arange(100) % 2
    design = Design(labels, donors=donors)
    full = compare(design)
    comparison = limited(100, design=design)
    assert not (comparison.far & ~full.far).any()
    assert comparison.near.any()
    assert comparison.far.any()


def test_same_seed_same_pairs() -> None:
    one, again, other = (limited(300, seed).pairs for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("max_pairs", [50, 1000])
def test_random_pairs_know_no_disease(max_pairs: int) -> None:
    pairs = random_pairs(100, max_pairs, np.random.default_rng(0))
    assert 0.4 * max_pairs <= len(pairs) <= max_pairs
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)


@pytest.mark.parametrize(("max_pairs", "fewest", "most"), [(None, 190, 190), (30, 12, 30)])
def test_pairs_that_are_solved(max_pairs: int | None, fewest: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the closed form, of 20 patients."""
    solved = []

    def count(clouds: Clouds, pairs: np.ndarray, **settings: object) -> object:
        solved.extend(pairs)
        return solve_pairs(clouds, pairs, **settings)

    monkeypatch.setattr("gml._ot._pairwise.solve_pairs", count)
    x, rows = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40)
    points = Points(x, np.full(40, 0.5), 2 * np.arange(21), rows, rows)
    method = Discriminant(max_pairs=max_pairs)
    fit_discriminant(points, Design(np.arange(20) % 2), method, n_components=1, work=Work(Exact(), None, 0, 1))
    assert fewest <= len(solved) <= most


@pytest.mark.slow
def test_a_sample_of_pairs_finds_what_all_pairs_find() -> None:
    """120 patients of 10 points, planted in feature 2: a tenth of the pairs gives nearly the same direction."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    effect = 0.3 * rng.standard_normal((120, 6))
    effect[:, 2] += 2.0 * labels
    x = (rng.standard_normal((120, 10, 6)) + effect[:, None]).reshape(-1, 6)
    points = Points(x, np.full(1200, 0.1), 10 * np.arange(121), np.arange(1200), np.arange(1200))
    found = []
    for max_pairs in (None, 700):
        fit = fit_discriminant(
            points, Design(labels), Discriminant(max_pairs=max_pairs), n_components=1, work=Work(Exact(), None, 0, 1)
        )
        found.append(fit.components[0] / np.linalg.norm(fit.components[0]))
    assert abs(found[0] @ found[1]) > 0.98
    assert np.abs(found[1]).argmax() == 2
    assert len(learning_pairs(Design(labels), target="classes", max_pairs=700, rng=np.random.default_rng(0))) <= 700
