"""Two patients, or two groups of patients, as pairs to be transported; other patients are not read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import Columns, get_column
from gml._ot import Oriented, all_pairs, pairs_between, transport

from ._features import features_of
from ._measure import Measured, measure, read_cohort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort, Work
    from gml._ot import Transport
    from gml.solvers import Exact

    from ._metric import ResolvedMetric

MOST_PAIRS = 20_000  # whose plans are held at once
MOST_EDGES = 2**21  # of these plans
NAMED = 5  # names that an error lists


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """The selected patients, measured, and their pairs."""

    measured: Measured
    pairs: Oriented

    def solve(self, *, solver: Exact, n_jobs: int | None) -> Iterator[tuple[Transport, Oriented]]:
        """Plans of the pairs, block by block; the blocks do not depend on the number of workers."""
        clouds = self.measured.clouds
        edges = np.cumsum(np.diff(clouds.start)[self.pairs.pairs].sum(axis=1))
        first = 0
        while first < len(edges):
            room = MOST_EDGES + (edges[first - 1] if first else 0)
            last = min(first + MOST_PAIRS, int(np.searchsorted(edges, room, side="right")))
            block = self.pairs[first : max(first + 1, last)]
            ground = self.measured.metric.ground()
            yield transport(clouds, block.pairs, ground=ground, solver=solver, plans=True, n_jobs=n_jobs), block
            first += len(block.pairs)


def compare_two(
    adata: AnnData,
    metric: ResolvedMetric,
    names: tuple[str, str],
    *,
    patient_key: str,
    work: Work,
    groupby: str | None = None,
    excess: bool = False,
) -> Compared:
    """Measure two patients, or the patients of two groups, and weight their pairs."""
    columns = replace(metric.columns(adata, Columns(patient=patient_key)), disease=groupby)
    features = features_of(adata, metric, columns)
    if groupby is not None:
        get_column(adata, groupby, hint="Pass a column of groups of patients as `groupby`.")
    cohort = read_cohort(adata, columns, features, work=work, finite=False)
    chosen, p, q = _chosen(cohort, names, patient_key=columns.patient, groupby=groupby)
    pairs = _between(p, q) if names[0] != names[1] else _within(p, names[0])
    if excess:
        sets = (pairs, _within(p, names[0], coefficient=-0.5), _within(q, names[1], coefficient=-0.5))
        fields = ("pairs", "coefficients", "forward")
        pairs = Oriented(*[np.concatenate([getattr(part, field) for part in sets]) for field in fields])
    cohort = cohort.of(chosen)
    cohort.check_finite()
    return Compared(measure(cohort, metric, work), pairs)


def _chosen(
    cohort: Cohort, names: tuple[str, str], *, patient_key: str, groupby: str | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the named patients, and the positions among these of the patients of each name."""
    if groupby is None:
        hint = "To compare groups of patients, pass their column as `groupby`."
        codes = np.array([_find(name, cohort.patients, column=patient_key, hint=hint) for name in names])
        if codes[0] == codes[1]:
            msg = f"`p` and `q` are both {names[0]!r}; the distance of a patient to itself is 0. Pass two patients."
            raise ValueError(msg)
        rank = np.argsort(codes)  # of two, which is also the order
        return np.sort(codes), rank[:1], rank[1:]
    groups = [cohort.labels == _find(name, cohort.classes, column=groupby) for name in names]
    chosen = np.flatnonzero(groups[0] | groups[1])
    p, q = (np.flatnonzero(group[chosen]) for group in groups)
    return chosen, p, q


def _find(name: str, column_names: NDArray[np.str_], *, column: str, hint: str = "") -> int:
    """Position of a name among those of a column, or an error that lists some."""
    names: list[str] = column_names.tolist()
    if name in names:
        return names.index(name)
    close = get_close_matches(name, names, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(map(repr, names[:NAMED])) + (", …" if len(names) > NAMED else "")
    msg = f"adata.obs[{column!r}] has no {name!r}.{suggestion} It holds {len(names)} names: {listed}. {hint}"
    raise ValueError(msg.strip())


def _between(p: NDArray[np.intp], q: NDArray[np.intp]) -> Oriented:
    """Each of p with each of q, equally weighted; solved from the smaller number, so that p and q can be swapped."""
    ordered = pairs_between(p, q)
    forward = (ordered[:, 0] < ordered[:, 1]).astype(float)
    return Oriented(np.sort(ordered, axis=1), np.full(len(ordered), 1 / len(ordered)), forward)


def _within(p: NDArray[np.intp], name: str, *, coefficient: float = 1.0) -> Oriented:
    """Pairs of different patients of a group, equally weighted, without direction."""
    if len(p) < 2:
        msg = f"The group {name!r} has one patient, and distances within it need two; pass two groups, excess=False."
        raise ValueError(msg)
    pairs = p[all_pairs(len(p))]
    return Oriented(pairs, np.full(len(pairs), coefficient / len(pairs)), np.full(len(pairs), 0.5))
