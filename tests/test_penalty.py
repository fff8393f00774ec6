"""Penalties on the map: values by numpy, slopes by finite differences and by convexity."""

from typing import get_args

import numpy as np
import pytest

from gml._metric._penalty import penalty
from gml.methods import Penalty

NAMES = get_args(Penalty)
VALUES = {
    "frobenius": np.linalg.norm,
    "l1": lambda c: np.abs(c).sum(),
    "group_lasso": lambda c: sum(np.linalg.norm(column) for column in c.T),
    "nuclear": lambda c: np.linalg.norm(c, "nuc"),
}
RNG = np.random.default_rng(0)
GENERIC = {
    "wide": RNG.standard_normal((2, 5)),
    "tall": RNG.standard_normal((5, 2)),
    "row": RNG.standard_normal((1, 4)),
    "one": np.array([[-2.0]]),
}
KINKS = {
    "zero": np.zeros((3, 4)),
    "rank 1": np.outer([1.0, -2.0, 0.5], [1.0, 0.0, 3.0, -1.0]),
    "zero row": np.vstack([RNG.standard_normal((2, 4)), np.zeros(4)]),
    "zero column": RNG.standard_normal((3, 4)) * [1, 0, 1, 1],
}


def test_every_penalty_is_tested() -> None:
    assert set(VALUES) == set(NAMES)


@pytest.mark.parametrize("components", (GENERIC | KINKS).values(), ids=(GENERIC | KINKS).keys())
@pytest.mark.parametrize("name", NAMES)
def test_value(name: Penalty, components: np.ndarray) -> None:
    assert penalty(components, name)[0] == pytest.approx(VALUES[name](components), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("components", GENERIC.values(), ids=GENERIC.keys())
@pytest.mark.parametrize("name", NAMES)
def test_gradient_by_finite_differences(name: Penalty, components: np.ndarray) -> None:
    expected, step = np.empty_like(components), 1e-6
    for entry in np.ndindex(components.shape):
        moved = np.zeros_like(components)
        moved[entry] = step
        expected[entry] = (VALUES[name](components + moved) - VALUES[name](components - moved)) / (2 * step)
    np.testing.assert_allclose(penalty(components, name)[1], expected, atol=1e-8)


@pytest.mark.parametrize("components", (GENERIC | KINKS).values(), ids=(GENERIC | KINKS).keys())
@pytest.mark.parametrize("name", NAMES)
def test_subgradient_bounds_from_below(name: Penalty, components: np.ndarray) -> None:
    """A slope g of a convex f has f(y) ≥ f(x) + ⟨g, y − x⟩ for all y, at kinks too."""
    value, slope = penalty(components, name)
    assert slope.shape == components.shape
    rng = np.random.default_rng(1)
    for size in (1e-3, 1.0, 100.0):
        for _ in range(20):
            step = size * rng.standard_normal(components.shape)
            assert VALUES[name](components + step) >= value + (slope * step).sum() - 1e-12 * (1 + size)


@pytest.mark.parametrize("name", NAMES)
def test_no_slope_where_there_is_no_direction(name: Penalty) -> None:
    assert not penalty(np.zeros((2, 3)), name)[1].any()


def test_input_is_left_alone() -> None:
    components = np.random.default_rng(0).standard_normal((2, 3))
    components.setflags(write=False)
    for name in NAMES:
        penalty(components, name)
