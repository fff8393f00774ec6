"""One pivot: an arc enters the tree, the cycle that it closes is relieved, and the arc that runs dry leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._jit import jit

if TYPE_CHECKING:
    from ._jit import Number
    from ._tree import Tree


@jit
def pivot(s: Number, t: Number, n: Number, reduced: float, tree: Tree) -> None:
    """Let the arc from source s to sink t, of `reduced` cost below 0, enter."""
    out, of_source, theta, join = leaving_arc(s, t, n, tree)
    send(s, t, join, theta, tree)
    # the subtree below the leaving arc hangs on the entering one
    top, foot = (s, t) if of_source else (t, s)
    change_sizes(out, foot, join, tree)
    first, n_moved = np.int64(tree.place[out]), np.int64(tree.size[out])
    turn(top, foot, out, theta, tree)
    at = make_room(foot, join, first, n_moved, tree)
    rise = reduced if of_source else -reduced
    for i in range(n_moved):
        v = tree.moved[i]
        tree.order[at + i] = v
        tree.place[v] = at + i
        tree.potential[v] += rise


@jit
def leaving_arc(s: Number, t: Number, n: Number, tree: Tree) -> tuple[Number, bool, Number, Number]:
    """The arc that runs dry first as flow goes round, by its lower node; on whose side; the flow; where both meet.

    Flow is added from s to t, so sources lose it on the way up from s, and sinks on that from t. The ways are followed
    from the node with the smaller subtree, which the meeting point cannot be below.
    """
    parent, size, flow = tree.parent, tree.size, tree.flow
    theta = np.int64(0x7FFFFFFFFFFFFFFF)
    out, of_source = s, True
    u, v = s, t
    while u != v:
        u_up, v_up = size[u] <= size[v], size[v] <= size[u]
        if u_up:
            if u < n and flow[u] < theta:
                theta, out, of_source = flow[u], u, True
            u = parent[u]
        if v_up:
            if v >= n and flow[v] < theta:
                theta, out, of_source = flow[v], v, False
            v = parent[v]
    return out, of_source, theta, u


@jit
def send(s: Number, t: Number, join: Number, theta: Number, tree: Tree) -> None:
    """Change flows on both ways up by `theta`, in turn less and more."""
    for end in (s, t):
        change, u = -theta, end
        while u != join:
            tree.flow[u] += change
            change = -change
            u = tree.parent[u]


@jit
def change_sizes(out: Number, foot: Number, join: Number, tree: Tree) -> None:
    """Nodes above the old place of the subtree lose its nodes, those above the new one gain them."""
    parent, size = tree.parent, tree.size
    n_moved = size[out]
    u = parent[out]
    while u != join:
        size[u] -= n_moved
        u = parent[u]
    u = foot
    while u != join:
        size[u] += n_moved
        u = parent[u]


@jit
def turn(top: Number, foot: Number, out: Number, theta: Number, tree: Tree) -> None:
    """Hang the subtree up at `top` instead of `out`, and write its nodes in their new order to `moved`.

    On the way from `top` up to `out` every parent becomes a child. Behind it follows what it had besides, which lies
    on both sides of the hole that the child left.
    """
    parent, order, place, size, flow, _, moved = tree
    n_moved = np.int64(size[out])
    n_placed = np.uint64(0)
    new_parent, new_flow, v = foot, theta, top
    hole = hole_end = np.int64(place[top])
    while True:
        begin = np.int64(place[v])
        end = begin + np.int64(size[v])
        for at in range(begin, hole):
            moved[n_placed] = order[at]
            n_placed += np.uint64(1)
        for at in range(hole_end, end):
            moved[n_placed] = order[at]
            n_placed += np.uint64(1)
        size[v] = n_moved - (hole_end - hole)
        hole, hole_end = begin, end
        old_parent, old_flow = parent[v], flow[v]
        parent[v], flow[v] = new_parent, new_flow
        if v == out:
            return
        new_parent, new_flow, v = v, old_flow, old_parent


@jit
def make_room(foot: Number, join: Number, first: Number, n_moved: Number, tree: Tree) -> Number:
    """Shift the nodes between the old place of the subtree and the new one, which is returned."""
    order, place = tree.order, tree.place
    at = np.int64(place[foot]) + 1
    if at > first:
        for i in range(first + n_moved, at):
            v = order[i]
            order[i - n_moved] = v
            place[v] = i - n_moved
        return at - n_moved
    end = at - 1 + np.int64(tree.size[foot]) - n_moved
    if foot != join and end <= first:
        at = end  # the last child of its parent, so that fewer nodes are shifted
    for i in range(first - 1, at - 1, -1):
        v = order[i]
        order[i + n_moved] = v
        place[v] = i + n_moved
    return at
