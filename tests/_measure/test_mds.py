"""Classical scaling against configurations whose distances are known."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from gml._measure._measure import MAX_COMPONENTS, classical_mds


def check_signs(coordinates: np.ndarray) -> None:
    largest = coordinates[np.abs(coordinates).argmax(axis=0), np.arange(coordinates.shape[1])]
    assert (largest >= 0).all()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("p", "k"), [(2, 1), (3, 2), (10, 2), (12, 9), (40, 10)])
def test_euclidean_distances_come_back(p: int, k: int, unit: float) -> None:
    x = unit * np.random.default_rng(p).standard_normal((p, k))
    distances = cdist(x, x)
    found = classical_mds(distances)
    np.testing.assert_allclose(cdist(found, found), distances, rtol=1e-7, atol=1e-7 * unit)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9 * unit)
    np.testing.assert_allclose(found[:, k:], 0, atol=1e-6 * unit)
    check_signs(found)


def test_axes_are_principal() -> None:
    """Orthogonal, the longest first: the principal components of the configuration."""
    x = np.random.default_rng(0).standard_normal((15, 3)) * [1.0, 5.0, 2.0]
    found = classical_mds(cdist(x, x))[:, :3]
    gram = found.T @ found
    np.testing.assert_allclose(gram, np.diag(np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1] * 15), atol=1e-9)


def test_at_most_ten_axes() -> None:
    x = np.random.default_rng(0).standard_normal((30, 20))
    found = classical_mds(cdist(x, x))
    assert found.shape == (30, MAX_COMPONENTS)
    variances = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    np.testing.assert_allclose((found**2).mean(axis=0), variances[:MAX_COMPONENTS])


def test_distances_that_no_space_has() -> None:
    """A star: its centre is at 1 from four leaves, which are at 2 from each other."""
    distances = 2 * (1 - np.eye(5))
    distances[0, 1:] = distances[1:, 0] = 1
    found = classical_mds(distances)
    assert np.isfinite(found).all()
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found[0], 0, atol=1e-7)
    rng = np.random.default_rng(0)
    for _ in range(20):
        half = np.triu(rng.random((12, 12)), 1)
        found = classical_mds(half + half.T)
        assert np.isfinite(found).all()
        assert 2 <= found.shape[1] <= MAX_COMPONENTS
        assert (np.diff((found**2).sum(axis=0)) <= 1e-12).all()
        check_signs(found)


def test_at_least_two_columns() -> None:
    assert classical_mds(np.zeros((1, 1))).tolist() == [[0, 0]]
    pair = classical_mds(np.array([[0.0, 3.0], [3.0, 0.0]]))
    np.testing.assert_allclose(np.abs(pair), [[1.5, 0], [1.5, 0]])
    assert pair[:, 0].sum() == pytest.approx(0)
    assert classical_mds(np.zeros((4, 4))).tolist() == [[0, 0]] * 4
    line = np.arange(4.0)[:, None]
    assert classical_mds(cdist(line, line)).shape[1] >= 2


def test_sign_does_not_hang_on_the_order_of_patients() -> None:
    x = np.random.default_rng(0).standard_normal((9, 3)) ** 3
    distances, order = cdist(x, x), np.random.default_rng(1).permutation(9)
    first, second = classical_mds(distances), classical_mds(distances[np.ix_(order, order)])
    np.testing.assert_allclose(second[:, :3], first[order, :3], atol=1e-9)


def test_input_is_left_alone() -> None:
    distances = 1 - np.eye(4)
    distances.setflags(write=False)
    classical_mds(distances)
