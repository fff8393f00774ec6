"""Patients that can be drawn: those that have cells of the group that was measured."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gml._anndata import known_patients

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def drawn_patients(values: NDArray[Any], *, slot: str) -> NDArray[Any]:
    """Positions of the patients whose rows of `values` are known; at least one."""
    known = known_patients(values)
    if not known.any():
        msg = f"patients.{slot} is missing (NaN) for all patients: none of them has cells of this group."
        raise ValueError(msg)
    if not known.all():
        logger.info("%d of %d patients have no cells of this group and are left out", (~known).sum(), len(known))
    return known.nonzero()[0]
