"""Who is compared with whom, against loops over patients; and that donors and batches are then not learned."""

from dataclasses import fields
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import gml
from gml._cohort import Work
from gml._cohort._design import Design
from gml._metric import Displacements, compare
from gml._metric._comparison import pair_weights
from gml._ot import all_pairs
from gml.methods import Discriminant, Triplet
from gml.solvers import Exact

#: diseases, donors, batches
DESIGNS: dict[str, tuple[list[int], list[int] | None, list[int] | None]] = {
    "plain": ([0, 1, 0, 1, 1, 0], None, None),
    "three diseases, one of them single": ([0, 1, 0, 1, 2, 0, 1], None, None),
    "four diseases": ([3, 1, 0, 2, 1, 0, 3, 1], None, None),
    "paired": ([0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 2, 2], None),
    "some donors paired": ([0, 1, 0, 1, 0, 1, 0], [0, 0, 1, 2, 3, 3, 3], None),
    "a donor per disease": ([0, 0, 1, 1, 1], [0, 0, 1, 1, 1], None),
    "batches": ([0, 0, 0, 1, 1, 1, 2, 2], None, [0, 0, 1, 0, 1, 1, 2, 0]),
    "a batch per disease": ([0, 0, 1, 1], None, [0, 0, 1, 1]),
    "one batch": ([0, 1, 0, 1], None, [0, 0, 0, 0]),
    "donors and batches": ([0, 1, 0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 0, 0, 1, 1, 1, 1]),
}
each_design = pytest.mark.parametrize("name", DESIGNS)


def design_of(name: str) -> Design:
    labels, donors, batches = DESIGNS[name]
    return Design(
        np.array(labels),
        donors=None if donors is None else np.array(donors),
        batches=None if batches is None else np.array(batches),
    )


def chosen(asked: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in asked]


# who is compared


@each_design
def test_compare_by_loops(reference: ModuleType, name: str) -> None:
    comparison = compare(design_of(name))
    near, far = reference.comparison(*DESIGNS[name])
    assert chosen(comparison.near) == near
    assert chosen(comparison.far) == far
    assert comparison.gaps is None


@pytest.mark.parametrize("seed", range(20))
def test_compare_any_design(reference: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, donors, batches = (rng.integers(high, size=12) for high in (3, 5, 3))
    comparison = compare(Design(labels, None, donors, batches))
    assert (chosen(comparison.near), chosen(comparison.far)) == reference.comparison(labels, donors, batches)


def test_partners_are_of_the_own_donor_where_there_are_any() -> None:
    """Donors a (both diseases, the second twice), b (first disease only) and c (second disease only)."""
    design = Design(np.array([0, 1, 1, 0, 1]), donors=np.array([0, 0, 0, 1, 2]))
    comparison = compare(design)
    assert chosen(comparison.far) == [[1, 2], [0], [0], [1, 2, 4], [0, 3]]
    assert chosen(comparison.near) == [[3], [4], [4], [0], [1, 2]]


def test_the_batch_is_asked_for_among_those_of_the_donor() -> None:
    """Patient 0 keeps the partner of the same donor, although only a stranger shares the batch."""
    design = Design(np.array([0, 1, 1, 0]), donors=np.array([0, 0, 1, 1]), batches=np.array([0, 1, 0, 0]))
    assert chosen(compare(design).far)[0] == [1]


def test_ordered_target_compares_all_that_can_be_in_order(reference: ModuleType) -> None:
    """No one is far from a patient with the same value, or near to one at the other end."""
    values = np.array([3.0, -1.0, 3.0, 0.5])
    comparison = compare(Design(np.array([2, 0, 2, 1]), values), "ordered")
    assert chosen(comparison.near) == [[2, 3], [3], [0, 3], [0, 1, 2]]
    assert chosen(comparison.far) == [[1, 3], [0, 2, 3], [1, 3], [0, 1, 2]]
    np.testing.assert_allclose(comparison.gaps, reference.gaps(values))
    assert comparison.gaps.max() == 1


def test_ordered_target_within_batches() -> None:
    design = Design(np.array([0, 1, 2, 3]), np.arange(4.0), batches=np.array([0, 0, 1, 1]))
    comparison = compare(design, "ordered")
    assert chosen(comparison.far) == [[1], [0], [3], [2]]
    assert chosen(comparison.near) == [[2], [2, 3], [0, 1], [1]]


def test_ordered_target_needs_numbers() -> None:
    with pytest.raises(ValueError, match="needs a disease column of numbers or of ordered categories"):
        compare(Design(np.array([0, 1, 0])), "ordered")


# how much a pair counts


@each_design
def test_weights_by_loops(reference: ModuleType, name: str) -> None:
    design = design_of(name)
    pairs = all_pairs(len(design))
    within, between = pair_weights(compare(design), design, pairs, balanced=False)
    for found, asked in zip((within, between), reference.comparison(*DESIGNS[name]), strict=True):
        expected = reference.pair_weights(asked)
        assert found.sum() == pytest.approx(1)
        np.testing.assert_allclose(found, [expected.get((p, q), 0.0) for p, q in pairs.tolist()], atol=1e-15)


@each_design
def test_balanced_weights_give_every_class_the_same(name: str) -> None:
    design = design_of(name)
    labels, pairs = design.labels, all_pairs(len(design))
    within, between = pair_weights(compare(design), design, pairs, balanced=True)
    classes, sizes = np.unique(labels, return_counts=True)
    repeated = classes[sizes > 1]
    for a, b in combinations(classes, 2):
        of_these = (np.sort(labels[pairs], axis=1) == [a, b]).all(axis=1)
        n_kinds = len(classes) * (len(classes) - 1) // 2
        assert between[of_these].sum() == pytest.approx(1 / n_kinds)
        assert within[of_these].sum() == 0
    for a in repeated:
        of_this = (labels[pairs] == a).all(axis=1)
        assert within[of_this].sum() == pytest.approx(1 / len(repeated))
        assert between[of_this].sum() == 0


@each_design
def test_balance_keeps_the_proportions_inside_a_class(name: str) -> None:
    design = design_of(name)
    pairs = all_pairs(len(design))
    plain, balanced = (pair_weights(compare(design), design, pairs, balanced=flag) for flag in (False, True))
    for first, second in zip(plain, balanced, strict=True):
        np.testing.assert_array_equal(first > 0, second > 0)
        for kind in np.unique(np.sort(design.labels[pairs], axis=1), axis=0):
            mine = (np.sort(design.labels[pairs], axis=1) == kind).all(axis=1) & (first > 0)
            ratio = second[mine] / first[mine]
            np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape))


def test_ordered_weights_by_loops(reference: ModuleType) -> None:
    values = np.array([0.0, 2.0, 1.0, 5.0, 2.0])
    design = Design(np.array([0, 2, 1, 3, 2]), values)
    pairs = all_pairs(5)
    found = pair_weights(compare(design, "ordered"), design, pairs, balanced=False)
    for weights, expected in zip(found, reference.ordered_weights(values), strict=True):
        np.testing.assert_allclose(weights, [expected[p, q] for p, q in pairs.tolist()])


# the scatters that come of it


@pytest.mark.parametrize("name", ["some donors paired", "batches", "donors and batches"])
def test_scatters_of_a_design(reference: ModuleType, name: str) -> None:
    design = design_of(name)
    points = reference.random_points(np.random.default_rng(0), design.labels, 3)
    moments = reference.second_moments(points, np.eye(3))
    displacements = Displacements.solve(points, work=Work(Exact(), None, 0, 1))
    found = displacements.scatters(design, np.arange(len(design)), Discriminant())
    for scatter, asked in zip(found, reference.comparison(*DESIGNS[name]), strict=True):
        expected = reference.weighted_moments(moments, reference.pair_weights(asked))
        np.testing.assert_allclose(displacements.basis.T @ scatter @ displacements.basis, expected, atol=1e-12)


def test_scatters_of_some_patients(reference: ModuleType) -> None:
    """The plans of all patients serve any part of them: the same as the scatters of that part alone."""
    design = design_of("donors and batches")
    points = reference.random_points(np.random.default_rng(0), design.labels, 3)
    some = np.array([6, 0, 1, 7, 3])
    part = design.of(some)
    whole = Displacements.solve(points, work=Work(Exact(), None, 0, 1))
    alone = Displacements.solve(points.of(some), work=Work(Exact(), None, 0, 1))
    found = whole.scatters(part, some, Discriminant())
    expected = alone.scatters(part, np.arange(5), Discriminant())
    for first, second in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            whole.basis.T @ first @ whole.basis, alone.basis.T @ second @ alone.basis, atol=1e-12
        )


def test_design_of_some_patients() -> None:
    design = Design(np.array([0, 1, 2]), np.array([0.0, 0.5, 2.0]), np.array([4, 4, 5]), np.array([7, 8, 9]))
    part = design.of(np.array([2, 0]))
    for field, expected in zip(fields(part), ([2, 0], [2.0, 0.0], [5, 4], [9, 7]), strict=True):
        assert getattr(part, field.name).tolist() == expected
    assert part.groups.tolist() == [5, 4]
    alone = Design(np.array([0, 1, 1])).of(np.array([1, 2]))
    assert len(alone) == 2
    assert [getattr(alone, field.name) for field in fields(alone)[1:]] == [None, None, None]
    assert alone.groups.tolist() == [0, 1]


# what is learned then


def shifted(disease: list[str], group: list[str], column: str) -> AnnData:
    """The disease moves feature 0 by 1 ± 0.5, the group (a batch or donor) feature 1 by three times its number."""
    rng = np.random.default_rng(2)
    clouds = [rng.normal(0, 0.3, (8, 4)) + rng.normal(0, [0.5, 0.2, 0.2, 0.2]) for _ in disease]
    for x, of_disease, of_group in zip(clouds, disease, group, strict=True):
        x[:, 0] += of_disease == "ill"
        x[:, 1] += 3 * int(of_group[1:])
    patients = [f"P{i:02d}" for i in range(len(disease))]
    obs = pd.DataFrame({"patient": patients, "disease": disease, column: group}).loc[np.repeat(range(len(disease)), 8)]
    obs.index = [f"c{i}" for i in range(len(obs))]
    return AnnData(np.concatenate(clouds), obs=obs)


CONFOUNDED = {
    "batch": (["well"] * 6 + ["ill"] * 6, ["b0"] * 5 + ["b1"] * 2 + ["b0"] + ["b1"] * 4),
    "donor": (
        ["well", "ill", "well", "ill", "well", "well", "well", "ill", "ill", "ill"],
        ["d0", "d0", "d1", "d1", "d0", "d0", "d0", "d1", "d1", "d1"],
    ),
}


@pytest.mark.parametrize(
    "method",
    [Discriminant(), Discriminant(balanced=True, whitening=1.0), Triplet(max_iter=15)],
    ids=["plain", "sum", "triplet"],
)
@pytest.mark.parametrize("column", CONFOUNDED)
def test_what_groups_do_to_cells_is_not_learned(column: str, method: Any) -> None:
    """The shift of the groups is three times that of the disease, and goes along with it in most patients."""
    adata = shifted(*CONFOUNDED[column], column)
    preference = []
    for key in (None, column):
        gml.tl.learn_metric(adata, method=method, **{f"{column}_key": key})
        metric = gml.get.metric(adata)
        assert metric.params[f"{column}_key"] == key
        weight = np.linalg.norm(metric.components, axis=0)
        preference.append(weight[0] / weight[1])
    assert preference[1] > 1.5 * preference[0]
    assert preference[1] > 2


def test_batch_that_is_the_disease_changes_nothing() -> None:
    """No anchor has partners of the own batch, so all are taken; near ones of another batch there are none either."""
    adata = shifted(["well"] * 4 + ["ill"] * 4, ["b0"] * 4 + ["b1"] * 4, "batch")
    gml.tl.learn_metric(adata, method="discriminant")
    expected = gml.get.metric(adata).components
    with pytest.warns(UserWarning, match="8 of 8 patients are in a batch with one disease only"):
        gml.tl.learn_metric(adata, method="discriminant", batch_key="batch")
    np.testing.assert_array_equal(gml.get.metric(adata).components, expected)
