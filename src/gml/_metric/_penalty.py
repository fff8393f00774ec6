"""Penalties on the map L, with a subgradient each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml.methods import Penalty


def penalty(components: NDArray[np.float64], name: Penalty) -> tuple[float, NDArray[np.float64]]:
    r"""Value and subgradient of a penalty on L, shapes (k, d) → (k, d).

    ``"frobenius"``
        :math:`\lVert L \rVert_F`, as published: all entries small.
    ``"l1"``
        :math:`\sum |L_{cf}|`: few entries.
    ``"group_lasso"``
        :math:`\sum_f \lVert L_{\cdot f} \rVert_2` over features: few features.
    ``"nuclear"``
        Sum of the singular values: few components.
    """
    if name == "l1":
        return float(np.abs(components).sum()), np.sign(components)
    if name == "nuclear":
        u, s, vt = np.linalg.svd(components, full_matrices=False)
        return float(s.sum()), (u * (s > 0)) @ vt
    axis = 0 if name == "group_lasso" else None
    norm = np.linalg.norm(components, axis=axis, keepdims=True)
    direction = np.divide(components, norm, out=np.zeros_like(components), where=norm > 0)
    return float(norm.sum()), direction
