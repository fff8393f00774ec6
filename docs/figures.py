"""Draw the figures of the pages "User guide" and "How exact transport is solved", into docs/_static.

``python docs/figures.py`` does it. Every line and number in them is computed by gml from small cohorts that are
simulated here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.collections import LineCollection
from scanpy.plotting.palettes import default_20

import gml
from gml._ot._simplex._block import Flows, cost_of, make_basis
from gml._ot._simplex._pivot import leaving_arc, pivot
from gml._ot._simplex._problem import bits_of, euclidean_cost, integer_weights
from gml._ot._simplex._search import cheapest_arc
from gml._ot._simplex._tree import Arcs, Tree

FOLDER = Path(__file__).parent / "_static"
COLORS = dict(zip(["healthy", "ill"], default_20, strict=False))
N_CELLS = 60  # of a patient
RANGE_A, RANGE_B = (0, 8), (-1, 11)  # of the genes


def simulate(n_patients: int, *, n_cells: int = N_CELLS, seed: int = 1) -> AnnData:
    """Two genes and two cell types: illness moves one type along gene A, patients differ along gene B."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), n_cells)
    ill = patient % 2 == 1
    second_type = np.arange(len(patient)) % 2 == 1
    shift = rng.uniform(-2.5, 2.5, n_patients)[patient]
    gene_a = np.where(second_type, 5.0 + 1.2 * ill, 1.5)
    gene_b = np.where(second_type, 6.0, 3.5) + shift
    cells = np.column_stack([gene_a, gene_b]) + rng.normal(0, [0.45, 0.6], (len(patient), 2))
    obs = {"patient": [f"P{p:02d}" for p in patient], "disease": np.where(ill, "ill", "healthy")}
    return AnnData(cells, obs=pd.DataFrame(obs).rename(str), var=pd.DataFrame(index=["gene A", "gene B"]))


def cells_of(adata: AnnData, patient: str) -> AnnData:
    """Cells of one patient."""
    return adata[adata.obs["patient"] == patient]


def genes_on_axes(ax: plt.Axes) -> None:
    """Both genes in one unit."""
    ax.set(xlabel="gene A", ylabel="gene B", aspect="equal", xticks=[], yticks=[])


def draw_patients(adata: AnnData) -> plt.Figure:
    """All cells; then the cells of two patients, with the points that stand for them."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained", sharex=True, sharey=True)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    axes[0].scatter(*adata.X[order].T, c=adata.obs["disease"].map(COLORS).to_numpy()[order], s=3)
    axes[0].set_title(f"cells of {adata.obs['patient'].nunique()} patients")
    points = gml.pp.sketch(adata, n_points=8)
    for ax, patient in zip(axes[1:], ["P00", "P01"], strict=True):
        cells, few = cells_of(adata, patient), cells_of(points, patient)
        disease = cells.obs["disease"].iloc[0]
        ax.scatter(*adata.X.T, c="0.9", s=3)
        ax.scatter(*cells.X.T, c=COLORS[disease], s=6)
        ax.scatter(*few.X.T, s=1000 * few.obs["weight"], facecolor="none", edgecolor="black")
        ax.set_title(f"{patient}, {disease}")
    for ax in axes:
        genes_on_axes(ax)
    return figure


def draw_plan(adata: AnnData, p: str, q: str, *, metric: str | None, ax: plt.Axes) -> None:
    """Cells of two patients, and lines as wide as the mass that the plan moves."""
    plan = gml.tl.transport_plan(adata, p, q, metric=metric, n_points=None).tocoo()
    start, end = cells_of(adata, p), cells_of(adata, q)
    ends = np.stack([start.X[plan.row], end.X[plan.col]], axis=1)
    ax.add_collection(LineCollection(ends, linewidths=40 * plan.data, colors="0.6", zorder=1))
    for cells, marker in [(start, "o"), (end, "^")]:
        name, disease = cells.obs[["patient", "disease"]].iloc[0]
        ax.scatter(*cells.X.T, c=COLORS[disease], s=12, marker=marker, label=f"{name}, {disease}", zorder=2)
    genes_on_axes(ax)


def draw_transport(adata: AnnData, patients: dict[str, AnnData]) -> plt.Figure:
    """One patient onto one of the same disease and one of the other, under both metrics."""
    same, other = far_and_near(patients["Euclidean"])
    figure, axes = plt.subplots(1, 4, figsize=(10, 4.6), layout="constrained", sharex=True, sharey=True)
    panels = [(name, q) for name in patients for q in (same, other)]
    for ax, (name, q) in zip(axes, panels, strict=True):
        table = gml.get.distances(patients[name])
        draw_plan(adata, "P00", q, metric=None if name == "Euclidean" else "gml", ax=ax)
        ax.set_title(f"{name}\n{table.loc['P00', q] / mean_distance(table):.2f} of the mean distance")
        ax.legend(loc="upper left", fontsize="small")
    axes[0].set_ylim(top=axes[0].get_ylim()[1] + 2)  # room for the legends
    return figure


def far_and_near(patients: AnnData) -> tuple[str, str]:
    """The furthest patient of the disease of P00, and the nearest one of the other disease."""
    row = gml.get.distances(patients).loc["P00"].drop("P00")
    ill = patients.obs["disease"] == "ill"
    return row[~ill[row.index]].idxmax(), row[ill[row.index]].idxmin()


def mean_distance(table: pd.DataFrame) -> float:
    """Mean over pairs of patients."""
    return table.to_numpy()[np.triu_indices(len(table), 1)].mean()


def wrong_triplets(table: pd.DataFrame, diseases: pd.Series) -> float:
    """Share of triplets in which the patient of the other disease is the nearer one."""
    wrong = []
    for anchor in table.index:
        row, same = table.loc[anchor].drop(anchor), diseases.drop(anchor) == diseases[anchor]
        wrong.append(np.greater.outer(row[same].to_numpy(), row[~same].to_numpy()).ravel())
    return float(np.concatenate(wrong).mean())


def draw_triplets(patients: dict[str, AnnData]) -> plt.Figure:
    """Distances from one anchor to all others, under both metrics."""
    figure, ax = plt.subplots(figsize=(9, 2.8), layout="constrained")
    rng = np.random.default_rng(0)
    for height, measured in zip([1, 0], patients.values(), strict=True):
        table, diseases = gml.get.distances(measured), measured.obs["disease"]
        row = (table.loc["P00"] / mean_distance(table)).drop("P00")
        for disease, color in COLORS.items():
            chosen = row[diseases[row.index] == disease]
            label = f"{disease}, as P00" if disease == "healthy" else disease
            y = height + rng.uniform(-0.15, 0.15, len(chosen))
            ax.scatter(chosen, y, color=color, s=40, label=label if height else None)
        wrong = f"{wrong_triplets(table, diseases):.0%} of all\ntriplets wrong"
        ax.text(1.01, height, wrong, transform=ax.get_yaxis_transform(), va="center")
    ax.set(yticks=[1, 0], yticklabels=patients, ylim=(-0.5, 1.9), xlim=(0, None))
    ax.set_xlabel("distance from the anchor P00, over the mean distance of all pairs")
    ax.legend(loc="upper right", ncols=2, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_learning(adata: AnnData, everyone: AnnData) -> plt.Figure:
    """What is equally far from one point; and all patients, with rings around those that did not teach the metric."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained", width_ratios=[0.8, 1, 1])
    metric = gml.get.metric(adata)
    centre = adata.X.mean(axis=0)
    x, y = np.meshgrid(np.linspace(*RANGE_A, 300), np.linspace(*RANGE_B, 300))
    away = np.stack([x, y], axis=-1) - centre
    axes[0].scatter(*adata.X.T, c=adata.obs["disease"].map(COLORS), s=2)
    for far, style in [(away, "dashed"), (metric.transform(away.reshape(-1, 2)).reshape(*x.shape, -1), "solid")]:
        axes[0].contour(x, y, np.linalg.norm(far, axis=-1), levels=[1.2], colors="black", linestyles=style)
    genes_on_axes(axes[0])
    for ax, (name, used) in zip(axes[1:], {"Euclidean": None, "learned": metric}.items(), strict=True):
        patients = gml.tl.patient_distances(everyone, metric=used)
        gml.pl.patient_embedding(patients, ax=ax)
        new = ~patients.obs_names.isin(adata.obs["patient"])
        ax.scatter(*patients.obsm["X_gml_mds"][new, :2].T, s=150, facecolor="none", edgecolor="black")
        ax.set_title(name)
    return figure


class Drawn(NamedTuple):
    """A basis between the points of two patients, in preorder, with flows in cells."""

    flow: dict[tuple[int, int], int]
    """Of each arc, from a source to a sink."""
    order: list[int]
    moved: slice
    """Of that order: the subtree that a pivot moves."""
    cost: float
    """Of a cell, in the mean."""


class Pivot(NamedTuple):
    """One step of the simplex."""

    before: Drawn
    after: Drawn
    enters: tuple[int, int]
    leaves: tuple[int, int]
    reduced: float
    """Cost of the arc that enters."""


def first_pivot(x: np.ndarray, y: np.ndarray, cells: np.ndarray) -> Pivot:
    """The first step from the greedy basis, by the kernels of gml: the arc of the lowest reduced cost enters."""
    n, n_nodes, n_cells = len(x), len(cells), cells[: len(x)].sum()
    cost, supply = np.empty((n, len(y))), np.empty(n_nodes, np.int64)
    euclidean_cost(x, np.ascontiguousarray(y.T), 1, cost)
    weights = cells / n_cells
    total = integer_weights(weights[:n], weights[n:], bits_of(n), supply)
    tree = Tree(*np.zeros((4, n_nodes), np.uint32), supply.copy(), np.empty(n_nodes), np.zeros(n_nodes, np.uint32))
    arcs = Arcs(*np.zeros((3, n_nodes), np.uint32), np.zeros(2 * n_nodes, np.uint32))
    make_basis(cost, supply, np.empty(0, np.uint32), tree, arcs)

    def drawn(top: int) -> Drawn:
        below = {int(v): int(tree.parent[v]) for v in tree.order[1:]}
        flow = {(min(v, u), max(v, u)): round(n_cells * (int(tree.flow[v]) / total)) for v, u in below.items()}
        moved = slice(int(tree.place[top]), int(tree.place[top] + tree.size[top]))
        return Drawn(flow, tree.order.tolist(), moved, cost_of(cost, Flows(1 / total, 1), tree))

    row, column, reduced = cheapest_arc(cost, tree.potential)
    s, t, n_sources = np.array([row, n + column, n], np.uint32)
    out, of_source, _, _ = leaving_arc(s, t, n_sources, tree)
    before = drawn(out)
    pivot(s, t, n_sources, reduced, tree)
    after = drawn(s if of_source else t)
    (leaves,) = before.flow.keys() - after.flow.keys()
    return Pivot(before, after, (int(s), int(t)), leaves, reduced)


def draw_pivot(*, seed: int) -> plt.Figure:
    """The basis between two patients before a pivot and after it, above the array of its nodes."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, [1.5, 1], (10, 2))
    cells = np.concatenate([rng.multinomial(N_CELLS, np.full(5, 1 / 5)) for _ in range(2)])
    step, colors = first_pivot(xy[:5], xy[5:], cells), np.repeat(list(COLORS.values()), 5)
    figure, axes = plt.subplots(2, 2, figsize=(10, 4.6), layout="constrained", height_ratios=[8, 1])
    for (ax, strip), basis, name in zip(axes.T, [step.before, step.after], ["before", "after"], strict=True):
        draw_arcs(ax, xy, basis, step=step)
        edges = np.full(10, "white", dtype=object)
        edges[basis.order[basis.moved]] = "black"
        ax.scatter(*xy.T, s=100 + 20 * cells, c=colors, edgecolor=edges, linewidth=2, zorder=3)
        for node, place in enumerate(xy):
            ax.text(*place, str(node), color="white", ha="center", va="center", zorder=4)
        ax.set_title(f"{name}: mean cost {basis.cost:.4f}")
        genes_on_axes(ax)
        ax.margins(0.1)
        draw_order(strip, basis, colors)
    return figure


def draw_arcs(ax: plt.Axes, xy: np.ndarray, basis: Drawn, *, step: Pivot) -> None:
    """Arcs as wide as their flows, which are written on them; before the pivot, with the change that is to come."""
    is_before = basis is step.before
    for arc, flow in basis.flow.items():
        ends = xy[list(arc)]
        color = "black" if arc == step.enters else "0.7"
        ax.plot(*ends.T, color=color, linewidth=0.5 + 0.45 * flow, solid_capstyle="butt", zorder=1)
        change = step.after.flow.get(arc, 0) - flow if is_before else 0
        label(ax, ends, f"{flow} {'+' if change > 0 else '−'} {abs(change)}" if change else str(flow))
    if is_before:
        ends = xy[list(step.enters)]
        ax.plot(*ends.T, "--", color="black", linewidth=1.5, zorder=1)
        label(ax, ends, f"{step.reduced:.3f}".replace("-", "−"))
        cross = 0.75 * xy[step.leaves[0]] + 0.25 * xy[step.leaves[1]]
        ax.scatter(*cross, marker="x", s=120, color="black", linewidth=2, zorder=2)


def label(ax: plt.Axes, ends: np.ndarray, text: str) -> None:
    """Text on an arc."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    ax.text(*ends.mean(axis=0), text, fontsize="small", ha="center", va="center", bbox=box, zorder=2)


def draw_order(ax: plt.Axes, basis: Drawn, colors: np.ndarray) -> None:
    """Nodes in preorder, with a frame around the subtree that the pivot moves."""
    places = np.arange(len(basis.order))
    ax.scatter(places, 0 * places, marker="s", s=260, c=colors[basis.order])
    for place, node in enumerate(basis.order):
        ax.text(place, 0, str(node), color="white", ha="center", va="center")
    begin, end = basis.moved.start, basis.moved.stop
    ax.add_patch(plt.Rectangle((begin - 0.5, -0.5), end - begin, 1, facecolor="none", edgecolor="black", linewidth=2))
    ax.set(xlim=(-0.6, len(places) - 0.4), ylim=(-0.6, 0.6), aspect="equal")
    ax.axis("off")


def main() -> None:
    """Learn from twenty patients, and keep ten others apart."""
    everyone = simulate(30)
    adata = everyone[everyone.obs["patient"] < "P20"].copy()
    gml.tl.learn_metric(adata)
    patients = {"Euclidean": gml.tl.patient_distances(adata, metric=None), "learned": gml.tl.patient_distances(adata)}
    figures = {
        "guide_patients": draw_patients(adata),
        "guide_transport": draw_transport(adata, patients),
        "guide_triplets": draw_triplets(patients),
        "guide_learning": draw_learning(adata, everyone),
        "pivot": draw_pivot(seed=1463),
    }
    for name, figure in figures.items():
        figure.savefig(FOLDER / f"{name}.png", dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
