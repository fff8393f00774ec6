"""What gml computes, as plainly as it can be written: loops over patients, edges and triplets, and POT's wrapper.

Nothing here is shared with gml but the containers of points and settings. Tests get it as the fixture `reference`.
"""

import itertools
from collections import defaultdict

import numpy as np
import ot
from scipy.optimize import brentq

from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._metric import compare
from gml._metric._comparison import draw_triplets
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


def gaps(values: np.ndarray) -> np.ndarray:
    """How much two patients differ in an ordered disease, the largest gap being 1."""
    p = len(values)
    found = np.array([[abs(float(values[i]) - float(values[j])) for j in range(p)] for i in range(p)])
    return found / found.max()


def rises_of(values: np.ndarray) -> dict[tuple[int, int, int], float]:
    """Every triplet whose negative differs more from the anchor than the positive does, and how much more."""
    gap = gaps(values)
    return {
        (j, i, k): gap[j, k] - gap[j, i]
        for j, i, k in itertools.permutations(range(len(values)), 3)
        if gap[j, k] > gap[j, i]
    }


def ordered_loss(distances: np.ndarray, values: np.ndarray, margin: float) -> tuple[float, np.ndarray]:
    """Mean hinge over triplets whose negative differs more from the anchor, and its derivative."""
    rises = rises_of(values)
    total, derivative = 0.0, np.zeros_like(distances)
    for (j, i, k), rise in rises.items():
        hinge = distances[j, i] - distances[j, k] + margin * rise / np.mean(list(rises.values()))
        if hinge > 0:
            total += hinge
            derivative[j, i] += 1
            derivative[j, k] -= 1
    return total / len(rises), derivative / len(rises)


def penalty(components: np.ndarray, name: str) -> tuple[float, np.ndarray]:
    """Value, and the gradient that a step of Adam takes: none for penalties that have a proximal step."""
    if name == "frobenius":
        value = np.sqrt((components**2).sum())
        return value, components / value
    if name == "l1":
        return np.abs(components).sum() / np.sqrt(components.size), np.zeros_like(components)
    if name == "group_lasso":
        lengths = [np.linalg.norm(column) for column in components.T]
        return sum(lengths) / np.sqrt(len(lengths)), np.zeros_like(components)
    values, vectors = np.linalg.eigh(components @ components.T)  # nuclear: L (LᵀL)^(-1/2) = (LLᵀ)^(-1/2) L
    return np.sqrt(values).sum(), (vectors / np.sqrt(values)) @ vectors.T @ components


def proximal(components: np.ndarray, name: str, reg: float, steps: np.ndarray) -> np.ndarray:
    """Argmin over Z of Σ (Z − L)² / (2 step) + reg · penalty, entry by entry or column by column."""
    found = np.zeros_like(components)
    if name == "l1":
        for entry in np.ndindex(components.shape):
            rest = abs(components[entry]) - reg * steps[entry]
            found[entry] = np.sign(components[entry]) * rest if rest > 0 else 0.0
        return found
    for f, (column, step) in enumerate(zip(components.T, steps.T, strict=True)):
        if np.linalg.norm(column / step) <= reg:
            continue

        def too_long(length: float, column: np.ndarray = column, step: np.ndarray = step) -> float:
            return float(np.linalg.norm(column / (1 + step * reg / length)) - length)

        length = brentq(too_long, 1e-12 * np.linalg.norm(column), np.linalg.norm(column), xtol=1e-300, rtol=1e-14)
        found[:, f] = column / (1 + step * reg / length)
    return found


def pairs_in(triplets: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Pairs of patients whose distance a triplet asks for."""
    return sorted({tuple(sorted(pair)) for j, i, k in triplets for pair in ((j, i), (j, k))})


def objective(
    points: Points,
    triplets: list[tuple[int, int, int]],
    components: np.ndarray,
    settings: Triplet,
    values: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """The published loss of a map, or that of ordered `values`, and its gradient by the envelope theorem."""
    distances, slopes = np.zeros((len(points), len(points))), {}
    for p, q in pairs_in(triplets):
        distances[p, q], edges = solve(points, p, q, components, settings.power)
        distances[q, p] = distances[p, q]
        slope = np.zeros_like(components)
        for mass, way in edges:
            of_way = np.outer(components @ way, way)
            slope += mass * (2 * of_way if settings.power == 2 else of_way / np.linalg.norm(components @ way))
        slopes[p, q] = slopes[q, p] = slope
    if values is None:
        loss, derivative = triplet_loss(distances, triplets, settings.margin)
    else:
        loss, derivative = ordered_loss(distances, values, settings.margin)
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


def donor_triplets(labels: np.ndarray, donors: np.ndarray | None) -> list[tuple[int, int, int]]:
    """Every (anchor, positive, negative) that donors leave."""
    near, far = comparison(labels, donors)
    return [(j, i, k) for j in range(len(labels)) for i in near[j] for k in far[j]]


def fit_triplet(
    points: Points,
    labels: np.ndarray,
    settings: Triplet,
    *,
    donors: np.ndarray | None = None,
    n_components: int,
    seed: int,
    n_passes: int,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Loss of each pass, and the map that it belongs to, in the unit of the features.

    For an ordered disease `labels` are its values.
    """
    rng = np.random.default_rng(seed)
    is_ordered = settings.target == "ordered"
    if is_ordered:
        triplets, weights = list(rises_of(labels)), ordered_weights(labels)
        pairs = pairs_in(triplets)
    else:
        triplets, weights = donor_triplets(labels, donors), tuple(map(pair_weights, comparison(labels, donors)))
        pairs = sorted(set().union(*weights))  # those in no triplet count for the unit, too
        if settings.n_triplets is not None:
            drawn = draw_triplets(compare(Design(labels, donors=donors)), settings.n_triplets, rng)
            triplets = list(map(tuple, drawn.tolist()))
            pairs = pairs_in(triplets)
    points, unit = in_unit_of_margin(points, pairs)
    d = points.x.shape[1]
    if settings.init == "uniform":
        components = rng.uniform(-1, 1, (n_components, d))
    else:
        components = np.linalg.qr(rng.standard_normal((d, n_components)))[0].T
    if settings.init == "discriminant":
        found = fit_discriminant(points, labels, shrinkage=0.5, n_components=n_components, weights=weights)[0]
        found_and_rest = [found, 0.01 * np.linalg.norm(found, 2) * components[len(found) :]]
        components = np.concatenate(found_and_rest)
        components /= np.mean([solve(points, p, q, components, 1)[0] for p, q in pairs])
    losses, maps = [], []
    first, second = np.zeros_like(components), np.zeros_like(components)
    for step in range(1, n_passes + 1):
        loss, gradient = objective(points, triplets, components, settings, labels if is_ordered else None)
        losses.append(loss)
        maps.append(components / unit)
        sparse = settings.penalty in {"l1", "group_lasso"}
        memory = 0.5 if sparse else 0.9
        first = memory * first + (1 - memory) * gradient
        second = 0.999 * second + 0.001 * gradient**2
        damping = max(1e-8, 0.5 * settings.reg / np.sqrt(components.size)) if sparse else 1e-8
        steps = settings.learning_rate / (np.sqrt(second / (1 - 0.999**step)) + damping)
        components = components - steps * first / (1 - memory**step)
        if sparse:
            n = components.size if settings.penalty == "l1" else components.shape[1]
            components = proximal(components, settings.penalty, settings.reg / np.sqrt(n), steps)
    return np.array(losses), maps


def second_moments(points: Points, components: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Second moment of the displacements of every pair of patients, under plans of power 2."""
    found = {}
    for p, q in itertools.combinations(range(len(points)), 2):
        _, edges = solve(points, p, q, components, 2)
        found[p, q] = sum(mass * np.outer(way, way) for mass, way in edges)
    return found


def mean_moments(
    moments: dict[tuple[int, int], np.ndarray], labels: np.ndarray, patients: list[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean moment within and between diseases, among some patients."""
    sums = {True: [], False: []}
    for (p, q), moment in moments.items():
        if patients is None or (p in patients and q in patients):
            sums[labels[p] == labels[q]].append(moment)
    return np.mean(sums[True], axis=0), np.mean(sums[False], axis=0)


def balanced_moments(moments: dict[tuple[int, int], np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over diseases of the means within each, and over pairs of diseases of the means between them."""
    by_kind = defaultdict(list)
    for (p, q), moment in moments.items():
        by_kind[tuple(sorted((labels[p], labels[q])))].append(moment)
    within, between = (
        [np.mean(some, axis=0) for (one, two), some in by_kind.items() if (one == two) == alike]
        for alike in (True, False)
    )
    return np.mean(within, axis=0), np.mean(between, axis=0)


def weighted_moments(moments: dict[tuple[int, int], np.ndarray], weights: dict[tuple[int, int], float]) -> np.ndarray:
    """Sum of the moments of pairs."""
    return sum(weight * moments[pair] for pair, weight in weights.items())


def scatters(points: Points, labels: np.ndarray, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean second moment of the displacements within and between diseases, under plans of power 2."""
    return mean_moments(second_moments(points, components), labels)


def jackknife_shrinkage(points: Points, labels: np.ndarray, n_groups: int = 16) -> float:
    """Variance of the scatter within diseases over its squared distance from a sphere, at most 1."""
    p, d = len(points), points.x.shape[1]
    moments = second_moments(points, np.eye(d))
    in_order = sorted(range(p), key=lambda patient: labels[patient])
    left_out = [in_order[first :: min(n_groups, p)] for first in range(min(n_groups, p))]
    parts = []
    for group in left_out:
        rest = [patient for patient in range(p) if patient not in group]
        of_rest = [labels[patient] for patient in rest]
        if len(set(of_rest)) > 1 and len(set(of_rest)) < len(of_rest):
            parts.append(mean_moments(moments, labels, rest)[0])
    if len(parts) < 2:
        return 1.0
    mean = sum(parts) / len(parts)
    variance = (len(parts) - 1) / len(parts) * sum(np.sum((part - mean) ** 2) for part in parts)
    within = mean_moments(moments, labels)[0]
    return min(1.0, variance / np.sum((within - np.trace(within) / d * np.eye(d)) ** 2))


def comparison(
    labels: np.ndarray, donors: np.ndarray | None = None, batches: np.ndarray | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """For every anchor the patients it should be near to, and those it should be far from."""
    near, far = [], []
    for i in range(len(labels)):
        alike = [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        unlike = [j for j in range(len(labels)) if labels[j] != labels[i]]
        for groups in (donors, batches):
            if groups is not None:
                alike = [j for j in alike if groups[j] != groups[i]] or alike
                unlike = [j for j in unlike if groups[j] == groups[i]] or unlike
        near.append(alike)
        far.append(unlike)
    return near, far


def pair_weights(asked: list[list[int]]) -> dict[tuple[int, int], float]:
    """A pair counts once for each of its patients that asks for the other; the sum is 1."""
    counts = defaultdict(float)
    for p, others in enumerate(asked):
        for q in others:
            counts[min(p, q), max(p, q)] += 1
    return {pair: count / sum(counts.values()) for pair, count in counts.items()}


def ordered_weights(values: np.ndarray) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Weights within (one less the gap) and between (the gap), each with sum 1."""
    gap = gaps(values)
    pairs = list(itertools.combinations(range(len(values)), 2))
    alike, unlike = {pair: 1 - gap[pair] for pair in pairs}, {pair: gap[pair] for pair in pairs}
    within, between = ({pair: weight / sum(some.values()) for pair, weight in some.items()} for some in (alike, unlike))
    return within, between


def sum_of_metrics(
    within: np.ndarray,
    between: np.ndarray,
    cells: np.ndarray,
    *,
    shrinkage: float,
    weights: tuple[float, float, float],
    n_directions: int,
    n_components: int | None = None,
    n_axes: int = 50,
) -> np.ndarray:
    """M of the weighted sum of directions of disease, whitening and Euclidean metric, for cells that span all features.

    Each part is first scaled to the mean squared distance of the first one that is there.
    """
    d = len(within)
    right = (1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d)
    centred = cells - cells.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n_axes]  # orthonormal columns
    mu, v = np.linalg.eig(np.linalg.solve(right, between - within))
    mu, v = mu.real, v.real
    directions = np.zeros((d, d))
    for i in np.argsort(-mu)[:n_directions]:
        if mu[i] > 0:
            directions += mu[i] * np.outer(v[:, i], v[:, i]) / (v[:, i] @ right @ v[:, i])
    whitening = axes @ np.linalg.inv(axes.T @ right @ axes) @ axes.T
    both = within + between
    metric, unit = np.zeros((d, d)), None
    for weight, part in zip(weights, (directions, whitening, axes @ axes.T), strict=True):
        if weight and part.any():
            unit = np.trace(part @ both) if unit is None else unit
            metric += weight * unit / np.trace(part @ both) * part
    if n_components is None:
        return metric
    values, vectors = np.linalg.eigh(both)
    root = (vectors * np.sqrt(values)) @ vectors.T  # symmetric square root
    values, vectors = np.linalg.eigh(root @ metric @ root)
    kept = (vectors[:, -n_components:] * values[-n_components:]) @ vectors[:, -n_components:].T
    return np.linalg.inv(root) @ kept @ np.linalg.inv(root)


def fit_discriminant(
    points: Points,
    labels: np.ndarray,
    *,
    shrinkage: float,
    rounds: int = 1,
    n_components: int,
    weights: tuple[dict[tuple[int, int], float], ...] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map, the loss of each round and all eigenvalues; for points that span all features.

    `weights` of the pairs within and between take the place of equal ones.
    """
    d = points.x.shape[1]
    components, losses, mu = np.eye(d), [], np.empty(0)
    for _ in range(rounds):
        if weights is None:
            within, between = scatters(points, labels, components)
        else:
            moments = second_moments(points, components)
            within, between = (weighted_moments(moments, of_pairs) for of_pairs in weights)
        right = (1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d)
        mu, v = np.linalg.eig(np.linalg.solve(right, between - within))
        mu, v = mu.real, v.real
        order = np.argsort(-mu)
        mu, v = mu[order], v[:, order]
        kept = [i for i in range(min(d, n_components)) if mu[i] > 0]
        components = np.array([np.sqrt(mu[i]) * v[:, i] / np.sqrt(v[:, i] @ right @ v[:, i]) for i in kept])
        losses.append(np.trace(components @ within @ components.T) / np.trace(components @ between @ components.T))
    return components, np.array(losses), mu


def held_out_losses(
    points: Points,
    labels: np.ndarray,
    settings: Triplet,
    held_out: list[list[int]],
    *,
    donors: np.ndarray | None = None,
    **options: int,
) -> np.ndarray:
    """Loss after each pass over triplets with a held-out anchor and training partners, mean over folds."""
    losses = []
    for anchors in held_out:
        train = [patient for patient in range(len(labels)) if patient not in anchors]
        of_train = None if donors is None else donors[train]
        _, maps = fit_triplet(points.of(np.array(train)), labels[train], settings, donors=of_train, **options)
        triplets = [(j, i, k) for j, i, k in all_triplets(labels) if j in anchors and i in train and k in train]
        of_pass = []
        for components in maps:
            hinges = []
            for j, i, k in triplets:
                near, far = (solve(points, j, q, components, settings.power)[0] for q in (i, k))
                hinges.append(max(0.0, near - far + settings.margin))
            of_pass.append(np.mean(hinges))
        losses.append(of_pass)
    return np.mean(losses, axis=0)


def share_in_order(
    distances: np.ndarray, near: list[list[int]], far: list[list[int]], test: list[int], train: list[int]
) -> float:
    """How often a training patient that should be near is nearer than one that should be far; ties count half."""
    shares = []
    for anchor in test:
        right = [
            (distances[anchor, i] < distances[anchor, k]) + 0.5 * (distances[anchor, i] == distances[anchor, k])
            for i in near[anchor]
            for k in far[anchor]
            if i in train and k in train
        ]
        if right:
            shares.append(np.mean(right))
    return float(np.mean(shares))
