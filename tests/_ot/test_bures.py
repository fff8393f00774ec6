"""Transport between Gaussians and mixtures of them: closed forms, POT, samples, finite differences."""

import itertools
from collections.abc import Sequence

import numpy as np
import ot
import pytest
import scipy.linalg
import torch

from gml._cohort._sketch import Points
from gml._ot import Clouds, Ground, all_pairs
from gml._ot._gaussian import GaussianSolution, solve_gaussian
from gml._ot._gaussian import _solution as module
from gml._ot._gaussian._bures import Roots, dense

SINGLE, MIXED = [1, 1, 1, 1], [1, 3, 2, 4]
POWERS = [1, 2]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def covariances_of(rng: np.random.Generator, n: int, d: int, *, rank: int | None = None) -> np.ndarray:
    half = rng.standard_normal((n, d, rank or d)) / np.sqrt(d)
    return half @ half.mT


def points_of(
    rng: np.random.Generator, sizes: Sequence[int], d: int, *, diag: bool = False, rank: int | None = None
) -> Points:
    """Random mixtures with so many components."""
    n = sum(sizes)
    covariances = rng.uniform(0.1, 2.0, (n, d)) if diag else covariances_of(rng, n, d, rank=rank)
    weights = np.concatenate([rng.dirichlet(np.full(size, 3.0)) for size in sizes])
    number = np.arange(n)
    return Points(rng.standard_normal((n, d)), weights, np.cumsum([0, *sizes]), number, number, None, covariances)


def solve(clouds: Clouds, pairs: np.ndarray | None = None, *, power: int = 2, n_jobs: int = 1) -> GaussianSolution:
    pairs = all_pairs(len(clouds.start) - 1) if pairs is None else pairs
    return solve_gaussian(clouds, pairs, ground=Ground(power=power), n_jobs=n_jobs)


def one_distance(means: object, covariances: object, power: int = 2) -> float:
    """Between two single Gaussians."""
    z, sigma = np.asarray(means, dtype=float), np.asarray(covariances, dtype=float)
    return float(solve(Clouds(z, np.ones(2), np.arange(3), sigma), power=power).distances[0])


def slow_distance(m: np.ndarray, s: np.ndarray, m2: np.ndarray, s2: np.ndarray) -> float:
    """Squared, by scipy's roots of matrices."""
    root = np.real(scipy.linalg.sqrtm(s))
    cross = np.real(scipy.linalg.sqrtm(root @ s2 @ root))
    return float(((m - m2) ** 2).sum() + np.trace(s) + np.trace(s2) - 2 * np.trace(cross))


def slow_plan(clouds: Clouds, p: int, q: int, power: int) -> tuple[np.ndarray, np.ndarray]:
    """Cost (k_p, k_q) and plan of two mixtures, by plain loops and POT."""
    i, j = (np.arange(*clouds.start[patient : patient + 2]) for patient in (p, q))
    sigma = dense(clouds.covariances)
    cost = np.array([[slow_distance(clouds.z[a], sigma[a], clouds.z[b], sigma[b]) for b in j] for a in i])
    cost = np.maximum(cost, 0) ** (power / 2)
    return cost, ot.emd(clouds.weights[i], clouds.weights[j] / clouds.weights[j].sum(), cost)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("diag", [False, True])
@pytest.mark.parametrize("sizes", [SINGLE, MIXED, [2, 1, 5]], ids=str)
def test_plain_loops(rng: np.random.Generator, sizes: list[int], diag: bool, k: int, power: int) -> None:
    clouds = Clouds.of(points_of(rng, sizes, k, diag=diag))
    solved = solve(clouds, power=power)
    expected = []
    for p, q in all_pairs(len(sizes)):
        cost, plan = slow_plan(clouds, p, q, power)
        expected.append((cost * plan).sum())
        edges = slice(*np.append(0, solved.plans.n_edges.cumsum())[len(expected) - 1 : len(expected) + 1])
        found = np.zeros((len(clouds.z),) * 2)
        found[solved.plans.source[edges], solved.plans.target[edges]] = solved.plans.mass[edges]
        parts = [slice(*clouds.start[patient : patient + 2]) for patient in (p, q)]
        np.testing.assert_allclose(found[parts[0], parts[1]], plan, atol=1e-12)
        assert (solved.plans.mass > 0).all()
    np.testing.assert_allclose(solved.distances, expected, rtol=1e-7)
    assert solved.convergence is None


def test_pot(rng: np.random.Generator) -> None:
    points = points_of(rng, SINGLE, 4)
    expected = [
        float(ot.gaussian.bures_wasserstein_distance(*points.x[[p, q]], *points.covariances[[p, q]]))
        for p, q in all_pairs(4)
    ]
    np.testing.assert_allclose(solve(Clouds.of(points), power=1).distances, expected, rtol=1e-9)
    mixtures = points_of(rng, MIXED, 3)
    parts = [slice(*mixtures.start[p : p + 2]) for p in range(4)]
    expected = [
        float(
            ot.gmm.gmm_ot_loss(
                mixtures.x[parts[p]],
                mixtures.x[parts[q]],
                mixtures.covariances[parts[p]],
                mixtures.covariances[parts[q]],
                mixtures.weights[parts[p]],
                mixtures.weights[parts[q]] / mixtures.weights[parts[q]].sum(),
            )
        )
        for p, q in all_pairs(4)
    ]
    np.testing.assert_allclose(solve(Clouds.of(mixtures)).distances, expected, rtol=1e-9)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("shape", [(2, 1), (2, 1, 1)], ids=["diag", "full"])
def test_one_dimension(shape: tuple[int, ...], power: int) -> None:
    """Of two normal distributions: difference of means and of standard deviations."""
    found = one_distance([[1.0], [4.0]], np.reshape([4.0, 36.0], shape), power)
    assert found == pytest.approx((3.0**2 + (2 - 6) ** 2) ** (power / 2), rel=1e-13)


def test_commuting(rng: np.random.Generator) -> None:
    basis = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    a, b = rng.random((2, 4))
    full = [(basis * a) @ basis.T, (basis * b) @ basis.T]
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert one_distance(np.zeros((2, 4)), full) == pytest.approx(expected, rel=1e-12)
    assert one_distance(np.zeros((2, 4)), [a, b]) == pytest.approx(expected, rel=1e-13)


def test_equal_covariances_are_shifted(rng: np.random.Generator) -> None:
    sigma = covariances_of(rng, 1, 4)[0]
    m, shift = rng.standard_normal((2, 4))
    assert one_distance([m, m + shift], [sigma, sigma]) == pytest.approx((shift**2).sum(), rel=1e-13)


def test_scaled_covariance(rng: np.random.Generator) -> None:
    """Stretched by 3, each standard deviation moves by twice itself."""
    sigma = covariances_of(rng, 1, 4)[0]
    assert one_distance(np.zeros((2, 4)), [sigma, 9 * sigma]) == pytest.approx(4 * np.trace(sigma), rel=1e-13)


@pytest.mark.parametrize("diag", [False, True])
def test_dirac(rng: np.random.Generator, diag: bool) -> None:
    """All cells go to one point; between two points it is the distance of points."""
    sigma = rng.random(3) if diag else covariances_of(rng, 1, 3)[0]
    trace = sigma.sum() if diag else np.trace(sigma)
    m, m2 = rng.standard_normal((2, 3))
    nothing = np.zeros_like(sigma)
    assert one_distance([m, m2], [sigma, nothing]) == pytest.approx(trace + ((m - m2) ** 2).sum(), rel=1e-13)
    assert one_distance([m, m2], [nothing, nothing], 1) == pytest.approx(np.linalg.norm(m - m2), rel=1e-13)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_singular_covariances(rng: np.random.Generator, rank: int) -> None:
    """Of equal support, the distance is that in the support."""
    basis = np.linalg.qr(rng.standard_normal((6, rank)))[0]
    low = covariances_of(rng, 2, rank)
    expected = slow_distance(np.zeros(rank), low[0], np.zeros(rank), low[1])
    assert one_distance(np.zeros((2, 6)), basis @ low @ basis.T) == pytest.approx(expected, rel=1e-9)


def test_orthogonal_supports(rng: np.random.Generator) -> None:
    """Every plan is optimal; the one that is taken has what it may leave open independent."""
    basis = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    sigma = (basis * np.array([[4.0, 1, 0, 0, 0], [0, 0, 9.0, 1, 0]])[:, None, :]) @ basis.T
    points = Points(np.zeros((2, 5)), np.ones(2), np.arange(3), np.arange(2), np.arange(2), None, sigma)
    solved = solve(Clouds.of(points))
    np.testing.assert_allclose(solved.distances, 15.0, rtol=1e-14)
    np.testing.assert_allclose(solved.moments(points).scatter(np.ones(1)), sigma.sum(axis=0), atol=1e-13)
    np.testing.assert_allclose(solved.slopes(np.ones(1)).covariances, [np.eye(5), np.eye(5)], atol=1e-13)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("k", [2, 7, 30])
def test_equal_gaussians(rng: np.random.Generator, k: int, rank: int | None) -> None:
    """Roots would show half of the digits that cancel."""
    points = points_of(rng, [1, 1, 1], k, rank=rank)
    twice = Points(*(getattr(points, name)[[0, 0, 0]] for name in ("x", "weights")), *[np.arange(4)] * 3)
    sigma = np.repeat(points.covariances[:1], 3, axis=0)
    clouds = Clouds(twice.x, twice.weights, twice.start, sigma)
    trace = np.trace(sigma[0])
    assert solve(clouds).distances.max() <= 1e-12 * trace
    assert solve(clouds, power=1).distances.max() <= 1e-6 * np.sqrt(trace)
    near = Clouds(twice.x, twice.weights, twice.start, sigma * (1 + 1e-3 * np.arange(3))[:, None, None])
    expected = [(np.sqrt(1 + 1e-3 * q) - np.sqrt(1 + 1e-3 * p)) ** 2 * trace for p, q in all_pairs(3)]
    np.testing.assert_allclose(solve(near).distances, expected, rtol=1e-6)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("diag", [False, True])
@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_a_patient_and_itself(rng: np.random.Generator, sizes: list[int], diag: bool, power: int) -> None:
    clouds = Clouds.of(points_of(rng, sizes, 3, diag=diag))
    same = np.repeat(np.arange(4)[:, None], 2, axis=1)
    solved = solve(clouds, same, power=power)
    np.testing.assert_array_equal(solved.distances, 0)
    slopes = solved.slopes(np.ones(4))
    np.testing.assert_allclose(slopes.z, 0, atol=1e-12)
    np.testing.assert_allclose(slopes.covariances, 0, atol=1e-12)


@pytest.mark.parametrize("sizes", [[1] * 6, [1, 2, 3, 1, 4, 2]], ids=str)
def test_metric_axioms(rng: np.random.Generator, sizes: list[int]) -> None:
    clouds = Clouds.of(points_of(rng, sizes, 3))
    pairs = all_pairs(6)
    d = np.zeros((6, 6))
    d[tuple(pairs.T)] = solve(clouds, pairs, power=1).distances
    back = solve(clouds, pairs[:, ::-1], power=1).distances
    np.testing.assert_allclose(back, d[tuple(pairs.T)], rtol=1e-10)
    assert (back > 0).all()
    d += d.T
    for i, j, k in itertools.permutations(range(6), 3):
        assert d[i, k] <= d[i, j] + d[j, k] + 1e-12


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("unit", [1e-100, 1e-8, 1e6, 1e100])
@pytest.mark.parametrize("diag", [False, True])
@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_any_unit(rng: np.random.Generator, sizes: list[int], diag: bool, unit: float, power: int) -> None:
    points = points_of(rng, sizes, 3, diag=diag)
    one = solve(Clouds.of(points), power=power)
    clouds = Clouds(unit * points.x, points.weights, points.start, unit**2 * points.covariances)
    scaled = solve(clouds, power=power)
    np.testing.assert_allclose(scaled.distances / unit**power, one.distances, rtol=1e-9)
    c = np.arange(1.0, 7.0)
    expected, found = one.slopes(c), scaled.slopes(c)
    np.testing.assert_allclose(found.z / unit ** (power - 1), expected.z, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.covariances / unit ** (power - 2), expected.covariances, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("power", POWERS)
def test_diagonal_and_full_agree(rng: np.random.Generator, power: int) -> None:
    points = points_of(rng, MIXED, 4, diag=True)
    full = Points(points.x, points.weights, points.start, points.rows, points.rows, None, dense(points.covariances))
    first, second = solve(Clouds.of(points), power=power), solve(Clouds.of(full), power=power)
    np.testing.assert_allclose(first.distances, second.distances, rtol=1e-12)
    c = rng.standard_normal(6)
    np.testing.assert_allclose(first.slopes(c).covariances, second.slopes(c).covariances, atol=1e-10)
    np.testing.assert_allclose(first.moments(points).triangles, second.moments(full).triangles, atol=1e-11)


@pytest.mark.slow
def test_near_to_exact_transport_of_samples(rng: np.random.Generator) -> None:
    points = points_of(rng, [1, 1], 2)
    n = 1_500
    x, y = (rng.multivariate_normal(points.x[p], points.covariances[p], size=n) for p in (0, 1))
    expected = ot.emd2(np.full(n, 1 / n), np.full(n, 1 / n), ot.dist(x, y), numItermax=10**6)
    assert solve(Clouds.of(points)).distances[0] == pytest.approx(expected, rel=0.05)


def test_far_apart_mixtures_match_their_modes(rng: np.random.Generator) -> None:
    """Components move among themselves: the distance is the mean of the distances of matched components."""
    points = points_of(rng, [2, 2], 3)
    x = points.x + 1e3 * np.array([0, 1, 1, 0])[:, None]
    clouds = Clouds(x, np.array([0.3, 0.7, 0.7, 0.3]), points.start, points.covariances)
    single = Clouds(x, np.ones(4), np.arange(5), points.covariances)
    matched = solve(single, np.array([[0, 3], [1, 2]])).distances
    assert solve(clouds).distances[0] == pytest.approx(0.3 * matched[0] + 0.7 * matched[1], rel=1e-9)


@pytest.mark.parametrize("power", POWERS)
def test_zero_weights_and_doubled_components(rng: np.random.Generator, power: int) -> None:
    points = points_of(rng, [3, 2], 3)
    expected = solve(Clouds.of(points), power=power)
    order = np.array([0, 1, 1, 2, 0, 3, 4])
    weights = points.weights[order] * np.array([1, 0.25, 0.75, 1, 0, 1, 1])
    clouds = Clouds(points.x[order], weights, np.array([0, 5, 7]), points.covariances[order])
    found = solve(clouds, power=power)
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-12)
    slopes = found.slopes(np.ones(1))
    assert np.isfinite(slopes.covariances).all()
    np.testing.assert_array_equal(slopes.z[4], 0)
    np.testing.assert_allclose(slopes.z[[1, 2]].sum(axis=0), expected.slopes(np.ones(1)).z[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_order_of_patients_and_pairs(rng: np.random.Generator, sizes: list[int]) -> None:
    points = points_of(rng, sizes, 3)
    pairs, order = all_pairs(4), np.array([2, 0, 3, 1])
    c, shuffled = rng.standard_normal(6), rng.permutation(6)
    expected = solve(Clouds.of(points), pairs)
    subset = points.of(order)
    place = np.argsort(order)
    found = solve(Clouds.of(subset), place[pairs][shuffled])
    np.testing.assert_allclose(found.distances, expected.distances[shuffled], rtol=1e-12)
    slopes, whole = found.slopes(c[shuffled]), expected.slopes(c)
    taken = points.points_of(order)
    np.testing.assert_allclose(slopes.z, whole.z[taken], atol=1e-11)
    np.testing.assert_allclose(slopes.covariances, whole.covariances[taken], atol=1e-9)


@pytest.mark.parametrize("block", [1, 30, 200])
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("sizes", [[1] * 7, [1, 2, 3, 1, 4, 2]], ids=str)
@pytest.mark.parametrize("diag", [False, True])
def test_blocks_and_workers(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, sizes: list[int], n_jobs: int, block: int, diag: bool
) -> None:
    points = points_of(rng, sizes, 3, diag=diag)
    clouds = Clouds.of(points)
    c = rng.standard_normal(len(all_pairs(len(sizes))))

    def everything(n_jobs: int) -> list[np.ndarray]:
        solved = solve(clouds, n_jobs=n_jobs)
        return [solved.distances, solved.slopes(c).covariances, solved.moments(points).triangles]

    whole = everything(1)
    monkeypatch.setattr(module, "BLOCK", block)
    one = everything(1)
    for expected, found, of_workers in zip(whole, one, everything(n_jobs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-10)
        np.testing.assert_array_equal(of_workers, found)  # to the last digit


def test_blocks_are_whole_pairs_of_bounded_size(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 100)
    n_edges = rng.integers(1, 20, size=200)
    blocks = module._blocks(n_edges, 4)
    np.testing.assert_array_equal(np.concatenate([np.arange(200)[block] for block in blocks]), np.arange(200))
    assert max(4 * n_edges[block][:-1].sum() for block in blocks) < 100
    assert len(blocks) <= 4 * n_edges.sum() / 100 + 1
    assert module._blocks(np.empty(0, dtype=int), 4) == []


@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_no_pairs(rng: np.random.Generator, sizes: list[int]) -> None:
    points = points_of(rng, sizes, 3)
    solved = solve(Clouds.of(points), np.empty((0, 2), dtype=np.intp))
    assert solved.distances.shape == (0,)
    slopes = solved.slopes(np.empty(0))
    assert not slopes.z.any()
    assert not slopes.covariances.any()
    assert not solved.moments(points).scatter(np.empty(0)).any()


def test_points_are_refused(rng: np.random.Generator) -> None:
    clouds = Clouds.of(points_of(rng, SINGLE, 3))
    with pytest.raises(ValueError, match="covariances"):
        solve(Clouds(clouds.z, clouds.weights, clouds.start))


def numeric_slope(function, components: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central finite differences."""
    slope = np.empty_like(components)
    for where in np.ndindex(*components.shape):
        change = np.zeros_like(components)
        change[where] = step
        slope[where] = (function(components + change) - function(components - change)) / (2 * step)
    return slope


@pytest.mark.slow
@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("kind", ["full", "diag", "singular"])
@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_slopes_of_the_map(rng: np.random.Generator, sizes: list[int], kind: str, k: int, power: int) -> None:
    """Also where covariances are singular, as under a map to more dimensions than there are."""
    points = points_of(rng, sizes, 4, diag=kind == "diag", rank=2 if kind == "singular" else None)
    components, c = rng.standard_normal((k, 4)), rng.standard_normal(6)

    def weighted(components: np.ndarray) -> float:
        return float(c @ solve(Clouds.of(points, components), power=power).distances)

    slopes = solve(Clouds.of(points, components), power=power).slopes(c)
    np.testing.assert_array_equal(slopes.covariances, slopes.covariances.mT)
    expected = numeric_slope(weighted, components)
    np.testing.assert_allclose(slopes.of_map(points, components), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("diag", [False, True])
@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_slopes_of_means_and_covariances(rng: np.random.Generator, sizes: list[int], diag: bool, power: int) -> None:
    clouds = Clouds.of(points_of(rng, sizes, 3, diag=diag))
    c = rng.standard_normal(6)
    slopes = solve(clouds, power=power).slopes(c)
    z_way, cov_way = rng.standard_normal(clouds.z.shape), 0.1 * covariances_of(rng, len(clouds.z), 3)
    cov_way = cov_way[:, range(3), range(3)] if diag else cov_way
    for z_step, cov_step in ((z_way, 0 * cov_way), (0 * z_way, cov_way)):

        def along(step: float, z_step=z_step, cov_step=cov_step) -> float:
            z, sigma = clouds.z + step * z_step, clouds.covariances + step * cov_step
            return float(c @ solve(Clouds(z, clouds.weights, clouds.start, sigma), power=power).distances)

        found = (slopes.z * z_step).sum() + (slopes.covariances * dense(cov_step)).sum()
        assert found == pytest.approx((along(1e-5) - along(-1e-5)) / 2e-5, rel=1e-6, abs=1e-7)


def torch_root(matrix: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.mT


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_slopes_are_those_of_autograd(rng: np.random.Generator, sizes: list[int], power: int) -> None:
    """With the plans between components held constant."""
    points = points_of(rng, sizes, 4)
    components, c = rng.standard_normal((3, 4)), rng.standard_normal(6)
    clouds = Clouds.of(points, components)
    L = torch.tensor(components, requires_grad=True)
    z, sigma = torch.from_numpy(points.x) @ L.T, L @ torch.from_numpy(points.covariances) @ L.T
    loss = torch.zeros((), dtype=torch.float64)
    for (p, q), weight in zip(all_pairs(4), c, strict=True):
        _, plan = slow_plan(clouds, p, q, power)
        for a, b in itertools.product(range(plan.shape[0]), range(plan.shape[1])):
            i, j = points.start[p] + a, points.start[q] + b
            root = torch_root(sigma[i])
            squared = ((z[i] - z[j]) ** 2).sum() + torch.trace(sigma[i]) + torch.trace(sigma[j])
            squared = squared - 2 * torch.trace(torch_root(root @ sigma[j] @ root))
            loss = loss + weight * plan[a, b] * (squared if power == 2 else squared.sqrt())
    loss.backward()
    found = solve(clouds, power=power).slopes(c).of_map(points, components)
    np.testing.assert_allclose(found, L.grad.numpy(), rtol=1e-7, atol=1e-9)


def test_slopes_of_narrow_gaussians(rng: np.random.Generator) -> None:
    """Variances over eight orders of magnitude."""
    axes = np.linalg.qr(rng.standard_normal((4, 3, 3)))[0]
    sigma = (axes * np.array([1.0, 1e-4, 1e-8])) @ axes.mT
    points = Points(np.zeros((4, 3)), np.ones(4), np.arange(5), np.arange(4), np.arange(4), None, sigma)
    components, c = rng.standard_normal((3, 3)), rng.standard_normal(6)
    found = solve(Clouds.of(points, components)).slopes(c).of_map(points, components)
    expected = numeric_slope(lambda L: float(c @ solve(Clouds.of(points, L)).distances), components, step=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("power", POWERS)
def test_slopes_of_diracs_are_finite(rng: np.random.Generator, power: int) -> None:
    """A patient of one cell, two equal patients, and all of them: no NaN, and what is equal pulls nowhere."""
    points = points_of(rng, [1, 1, 1, 1], 3)
    sigma = points.covariances.copy()
    sigma[0] = 0
    sigma[2], points.x[2] = sigma[1], points.x[1]
    for some in (sigma, np.zeros_like(sigma)):
        clouds = Clouds(points.x, points.weights, points.start, some)
        solved = solve(clouds, power=power)
        slopes = solved.slopes(np.ones(6))
        assert np.isfinite(slopes.z).all()
        assert np.isfinite(slopes.covariances).all()
    equal = solve(Clouds(points.x, points.weights, points.start, sigma), np.array([[1, 2]]), power=power)
    np.testing.assert_allclose(equal.slopes(np.ones(1)).covariances, 0, atol=1e-6)


def test_pairs_without_coefficient_are_skipped(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = Clouds.of(points_of(rng, SINGLE, 3))
    solved = solve(clouds)
    seen = []
    rotations = Roots.rotations

    def watched(self: Roots, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        seen.append(len(source))
        return rotations(self, source, target)

    monkeypatch.setattr(Roots, "rotations", watched)
    found = solved.slopes(np.array([0, 0, 2.0, 0, 0, 0]))
    assert seen == [1]
    alone = solve(clouds, np.array([[0, 3]])).slopes(np.array([2.0]))
    np.testing.assert_allclose(found.covariances, alone.covariances, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.z, alone.z, rtol=1e-12)


@pytest.mark.parametrize("diag", [False, True])
@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_moments_add_up_to_the_distance(rng: np.random.Generator, sizes: list[int], diag: bool) -> None:
    points = points_of(rng, sizes, 4, diag=diag)
    solved = solve(Clouds.of(points))
    moments = solved.moments(points)
    traces = [np.trace(moments.scatter(one)) for one in np.eye(6)]
    np.testing.assert_allclose(traces, solved.distances, rtol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("kind", ["full", "diag", "singular"])
@pytest.mark.parametrize("sizes", [SINGLE, MIXED], ids=str)
def test_moments_under_a_map(rng: np.random.Generator, sizes: list[int], kind: str, k: int) -> None:
    """Mapped, they are those of the plan; they are moments; and for an invertible map nothing is left open."""
    points = points_of(rng, sizes, 4, diag=kind == "diag", rank=2 if kind == "singular" else None)
    components = rng.standard_normal((k, 4))
    mapped = solve(Clouds.of(points, components))
    moments = mapped.moments(points, components)
    z = Points(
        points.x @ components.T, points.weights, points.start, points.rows, points.rows, None,
        Clouds.of(points, components).covariances,
    )  # fmt: skip
    of_z = mapped.moments(z)
    for one in np.eye(6):
        found = moments.scatter(one)
        np.testing.assert_allclose(components @ found @ components.T, of_z.scatter(one), rtol=1e-8, atol=1e-9)
        assert np.linalg.eigvalsh(found)[0] > -1e-10
    if k == 4:
        inverse = np.linalg.inv(components)
        np.testing.assert_allclose(moments.scatter(one), inverse @ of_z.scatter(one) @ inverse.T, rtol=1e-7, atol=1e-9)


def test_moments_of_drawn_cells(rng: np.random.Generator) -> None:
    """Cells of one patient, the optimal map in z, and cells of the other drawn given where they arrive."""
    points, components = points_of(rng, [1, 1], 3), rng.standard_normal((2, 3))
    sigma, other = points.covariances
    n = 400_000
    x = rng.multivariate_normal(points.x[0], sigma, size=n)
    s, s2 = (components @ part @ components.T for part in (sigma, other))
    root = np.real(scipy.linalg.sqrtm(s))
    inverse = np.linalg.inv(root)
    optimal = inverse @ np.real(scipy.linalg.sqrtm(root @ s2 @ root)) @ inverse
    arrived = (x - points.x[0]) @ components.T @ optimal  # centred
    lift = other @ components.T @ np.linalg.inv(s2)
    rest = other - lift @ components @ other
    y = points.x[1] + arrived @ lift.T + rng.multivariate_normal(np.zeros(3), rest, size=n)
    moved = x - y
    expected = moved.T @ moved / n
    found = solve(Clouds.of(points, components)).moments(points, components).scatter(np.ones(1))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.trace(expected))


@pytest.mark.parametrize("power", POWERS)
def test_moments_of_mixtures_are_sums_over_plans(rng: np.random.Generator, power: int) -> None:
    points = points_of(rng, MIXED, 3)
    clouds = Clouds.of(points)
    single = Clouds(points.x, np.ones(10), np.arange(11), points.covariances)
    among = all_pairs(10)
    parts = solve(single, among).moments(
        Points(points.x, np.ones(10), np.arange(11), np.arange(10), np.arange(10), None, points.covariances)
    )
    place = {(i, j): number for number, (i, j) in enumerate(among.tolist())}
    moments = solve(clouds, power=power).moments(points)
    c = rng.standard_normal(6)
    expected = np.zeros((3, 3))
    for (p, q), weight in zip(all_pairs(4), c, strict=True):
        _, plan = slow_plan(clouds, p, q, power)
        for a, b in np.argwhere(plan > 0):
            one = np.zeros(len(among))
            one[place[points.start[p] + a, points.start[q] + b]] = weight * plan[a, b]
            expected += parts.scatter(one)
    np.testing.assert_allclose(moments.scatter(c), expected, rtol=1e-9, atol=1e-11)


def test_input_is_left_alone(rng: np.random.Generator) -> None:
    points = points_of(rng, MIXED, 3)
    for name in ("x", "weights", "start", "covariances"):
        getattr(points, name).setflags(write=False)
    solved = solve(Clouds.of(points))
    coefficients = np.ones(6)
    coefficients.setflags(write=False)
    solved.slopes(coefficients)
    solved.moments(points).scatter(coefficients)
