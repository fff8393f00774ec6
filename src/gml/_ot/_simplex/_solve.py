"""The door to the kernels: arrays of any patients in, distances, plans as edges, potentials and bases out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gml._ot._solution import Transport

from ._block import NOT_FINITE, Result, Task, block_solver

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._ot._clouds import Clouds
    from gml._ot._solution import Basis


def solve_pairs(
    clouds: Clouds,
    pairs: NDArray[np.intp],
    *,
    power: int = 1,
    table: NDArray[np.float64] | None = None,
    max_iter: int,
    plans: bool = False,
    duals: bool = False,
    basis: Basis | None = None,
) -> Transport:
    r"""Exact transport of `pairs`, shape (n_pairs, 2), by a network simplex; points and the table hold no NaN.

    .. math:: \min_\pi \langle \pi, C \rangle, \quad \pi 1 = a, \; \pi^\top 1 = b, \; \pi \ge 0

    It starts from the optimal tree of the same pairs under other costs, if that is given as `basis` and fits the
    weights, which is checked, or from a greedy one. The optimum does not depend on it; of several optimal plans it
    may give another one.

    Parameters
    ----------
    clouds
        Points and weights; the numbers in `support` are rows and columns of the `table`.
    power
        Of the Euclidean ground cost, 1 or 2.
    table
        Ground costs in its place.
    max_iter
        Pivots of a pair before it gives up.
    plans, duals
        What is wanted besides distances.

    Raises
    ------
    ValueError
        If a cost is not finite, or some pair needs more pivots.
    """
    n_nodes = int(np.diff(clouds.start)[pairs].sum())
    nothing = np.empty((0, 0))
    task = Task(
        z=_read_only(clouds.z if table is None else nothing, np.float64),
        weights=_read_only(clouds.weights, np.float64),
        start=_read_only(clouds.start, np.int64),
        table=_read_only(nothing if table is None else table, np.float64),
        support=_read_only(nothing.ravel() if clouds.support is None else clouds.support, np.int64),
        pairs=_read_only(pairs, np.int64),
        saved=_read_only(nothing.ravel() if basis is None or len(basis) != n_nodes else basis, np.uint32),
        power=power if table is None else 0,
        max_iter=max_iter,
    )
    result = _empty(len(pairs), n_nodes=n_nodes, plans=plans, duals=duals)
    used = block_solver()(task, result)
    if (result.n_pivots == NOT_FINITE).any():
        raise not_finite()
    if (failed := result.n_pivots < 0).any():
        raise out_of_pivots(np.diff(clouds.start)[pairs[failed][0]], max_iter)
    return Transport(
        distances=result.distances,
        source=result.source[:used],
        target=result.target[:used],
        mass=result.mass[:used],
        cost=result.cost[:used],
        n_edges=result.n_edges,
        potential=result.potential,
        n_pivots=result.n_pivots,
        basis=result.basis.astype(np.uint16) if result.basis.max(initial=0) < 2**16 else result.basis,
    )


def _empty(n_pairs: int, *, n_nodes: int, plans: bool, duals: bool) -> Result:
    """What the kernel writes to."""
    edges = n_nodes if plans else 0
    return Result(
        distances=np.zeros(n_pairs),
        n_edges=np.zeros(n_pairs, np.int64),
        n_pivots=np.zeros(n_pairs, np.int64),
        source=np.empty(edges, np.int64),
        target=np.empty(edges, np.int64),
        mass=np.empty(edges),
        cost=np.empty(edges),
        potential=np.empty(n_nodes if duals else 0),
        basis=np.empty(edges, np.uint32),
    )


def _read_only(array: NDArray[Any], dtype: type) -> NDArray[Any]:
    """The array as the kernel knows it, which tells apart what can be written; joblib's memory maps cannot."""
    array = np.ascontiguousarray(array, dtype).view()
    array.flags.writeable = False
    return array


def not_finite() -> ValueError:
    """The error for costs that are no numbers."""
    return ValueError(
        "The ground cost between two patients is not finite: features or metric are too large for double precision. "
        "Bring the features to a common scale, e.g. with `sc.pp.scale`."
    )


def out_of_pivots(sizes: NDArray[np.intp], max_iter: int) -> ValueError:
    """The error for a pair of so many points, shape (2,), that was given up."""
    n, m = sizes
    return ValueError(
        f"The exact solver stopped without an optimal plan between {n} and {m} points (max_iter={max_iter}). Raise "
        f"`max_iter`, with solver=gml.solvers.Exact(max_iter={10 * max_iter}), or sketch patients with fewer points: "
        "n_points=64."
    )
