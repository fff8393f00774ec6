"""What gml computes, as plainly as it can be written: loops over patients, edges and triplets, and POT's wrapper.

Nothing here is shared with gml but the containers of points and settings. Tests get it as the fixture `reference`.
"""

import itertools

import numpy as np
import ot

from gml._metric._triplets import sample_triplets
from gml._sketch import Points
from gml.methods import Triplet


def make_points(clouds: list[np.ndarray], weights: list[np.ndarray] | None = None) -> Points:
    """Points of patients; uniform weights by default; each point is a cell."""
    start = np.cumsum([0, *map(len, clouds)])
    weights = [np.full(len(x), 1 / len(x)) for x in clouds] if weights is None else weights
    rows = np.arange(start[-1])
    return Points(np.concatenate(clouds).astype(float), np.concatenate(weights), start, rows, rows)


def random_points(rng: np.random.Generator, labels: np.ndarray, d: int, shift: float = 1.0) -> Points:
    """Patients of 3 to 7 points with random weights; classes differ in the first feature."""
    sizes = rng.integers(3, 8, size=len(labels))
    spread = np.linspace(1, 2, d)
    clouds = [rng.standard_normal((n, d)) * spread + rng.standard_normal(d) / 2 for n in sizes]
    for x, label in zip(clouds, labels, strict=True):
        x[:, 0] += shift * label
    return make_points(clouds, [rng.dirichlet(np.full(n, 5.0)) for n in sizes])


def of_patient(points: Points, patient: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of one patient."""
    first, last = points.start[patient], points.start[patient + 1]
    return points.x[first:last], points.weights[first:last]


def solve(
    points: Points, p: int, q: int, components: np.ndarray, power: int
) -> tuple[float, list[tuple[float, np.ndarray]]]:
    """OT distance of two patients, and the mass and the displacement of every edge of the plan."""
    (x, a), (y, b) = of_patient(points, p), of_patient(points, q)
    cost = np.array([[np.linalg.norm(components @ (i - j)) ** power for j in y] for i in x])
    plan = ot.emd(a, b, cost)
    edges = [(plan[i, j], x[i] - y[j]) for i in range(len(x)) for j in range(len(y)) if plan[i, j] > 0]
    return float(ot.emd2(a, b, cost)), edges


def all_triplets(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Every (anchor, positive, negative)."""
    return [
        (j, i, k)
        for j, i, k in itertools.product(range(len(labels)), repeat=3)
        if i != j and labels[i] == labels[j] != labels[k]
    ]


def triplet_loss(
    distances: np.ndarray, triplets: list[tuple[int, int, int]], margin: float
) -> tuple[float, np.ndarray]:
    """Mean hinge, and its derivative with the anchor in the row."""
    total, derivative = 0.0, np.zeros_like(distances)
    for j, i, k in triplets:
        hinge = distances[j, i] - distances[j, k] + margin
        if hinge > 0:
            total += hinge
            derivative[j, i] += 1
            derivative[j, k] -= 1
    return total / len(triplets), derivative / len(triplets)


def penalty(components: np.ndarray, name: str) -> tuple[float, np.ndarray]:
    """Value and gradient where there is one."""
    if name == "frobenius":
        value = np.sqrt((components**2).sum())
        return value, components / value
    if name == "l1":
        return np.abs(components).sum(), np.sign(components)
    if name == "group_lasso":
        lengths = np.array([np.linalg.norm(column) for column in components.T])
        return lengths.sum(), components / lengths
    values, vectors = np.linalg.eigh(components @ components.T)  # nuclear: L (LᵀL)^(-1/2) = (LLᵀ)^(-1/2) L
    return np.sqrt(values).sum(), (vectors / np.sqrt(values)) @ vectors.T @ components


def objective(
    points: Points, triplets: list[tuple[int, int, int]], components: np.ndarray, settings: Triplet
) -> tuple[float, np.ndarray]:
    """The published loss of a map, and its gradient by the envelope theorem."""
    distances, slopes = np.zeros((len(points), len(points))), {}
    for p, q in {tuple(sorted(pair)) for j, i, k in triplets for pair in ((j, i), (j, k))}:
        distances[p, q], edges = solve(points, p, q, components, settings.power)
        distances[q, p] = distances[p, q]
        slope = np.zeros_like(components)
        for mass, way in edges:
            of_way = np.outer(components @ way, way)
            slope += mass * (2 * of_way if settings.power == 2 else of_way / np.linalg.norm(components @ way))
        slopes[p, q] = slopes[q, p] = slope
    loss, derivative = triplet_loss(distances, triplets, settings.margin)
    value, gradient = penalty(components, settings.penalty)
    gradient = settings.reg * gradient
    for pair, slope in slopes.items():
        gradient = gradient + derivative[pair] * slope
    return loss + settings.reg * value, gradient


def in_unit_of_margin(points: Points, pairs: list[tuple[int, int]]) -> tuple[Points, float]:
    """Centred points at mean distance 1, and what they were divided by."""
    euclidean = np.eye(points.x.shape[1])
    unit = float(np.mean([solve(points, p, q, euclidean, 1)[0] for p, q in pairs]))
    x = (points.x - points.x.mean(axis=0)) / unit
    return Points(x, points.weights, points.start, points.rows, points.point_of_row), unit


def fit_triplet(
    points: Points, labels: np.ndarray, settings: Triplet, *, n_components: int, seed: int, n_passes: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Loss of each pass, and the map that it belongs to, in the unit of the features."""
    rng = np.random.default_rng(seed)
    if settings.n_triplets is None:
        triplets, pairs = all_triplets(labels), list(itertools.combinations(range(len(labels)), 2))
    else:
        triplets = list(map(tuple, sample_triplets(labels, settings.n_triplets, rng).tolist()))
        pairs = sorted({tuple(sorted(pair)) for j, i, k in triplets for pair in ((j, i), (j, k))})
    points, unit = in_unit_of_margin(points, pairs)
    d = points.x.shape[1]
    if settings.init == "uniform":
        components = rng.uniform(-1, 1, (n_components, d))
    else:
        components = np.linalg.qr(rng.standard_normal((d, n_components)))[0].T
    if settings.init == "spectral":
        found = fit_spectral(points, labels, shrinkage=0.5, n_components=n_components)[0]
        found_and_rest = [found, 0.01 * np.linalg.norm(found, 2) * components[len(found) :]]
        components = np.concatenate(found_and_rest)
        components /= np.mean([solve(points, p, q, components, 1)[0] for p, q in pairs])
    losses, maps = [], []
    first, second = np.zeros_like(components), np.zeros_like(components)
    for step in range(1, n_passes + 1):
        loss, gradient = objective(points, triplets, components, settings)
        losses.append(loss)
        maps.append(components / unit)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        direction = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        components = components - settings.learning_rate * direction
    return np.array(losses), maps


def scatters(points: Points, labels: np.ndarray, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean second moment of the displacements within and between diseases, under plans of power 2."""
    sums = {True: [], False: []}
    for p, q in itertools.combinations(range(len(labels)), 2):
        _, edges = solve(points, p, q, components, 2)
        sums[labels[p] == labels[q]].append(sum(mass * np.outer(way, way) for mass, way in edges))
    return np.mean(sums[True], axis=0), np.mean(sums[False], axis=0)


def fit_spectral(
    points: Points, labels: np.ndarray, *, shrinkage: float, rounds: int = 1, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map, the loss of each round and all eigenvalues; for points that span all features."""
    d = points.x.shape[1]
    components, losses, mu = np.eye(d), [], np.empty(0)
    for _ in range(rounds):
        within, between = scatters(points, labels, components)
        right = (1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d)
        mu, v = np.linalg.eig(np.linalg.solve(right, between - within))
        mu, v = mu.real, v.real
        order = np.argsort(-mu)
        mu, v = mu[order], v[:, order]
        kept = [i for i in range(min(d, n_components)) if mu[i] > 0]
        components = np.array([np.sqrt(mu[i]) * v[:, i] / np.sqrt(v[:, i] @ right @ v[:, i]) for i in kept])
        losses.append(np.trace(components @ within @ components.T) / np.trace(components @ between @ components.T))
    return components, np.array(losses), mu
