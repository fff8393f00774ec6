"""Warnings that point to the line of the user, however deep in gml the reason lies.

Inside of parallel work, such as the folds of a cross-validation, what is worth a warning is logged instead: there is no
line of the user, and hundreds of folds would say the same.
"""

from __future__ import annotations

import logging
import sys
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

logger = logging.getLogger(__name__)

inside_parallel: ContextVar[bool] = ContextVar("gml_inside_parallel", default=False)


def warn(message: str) -> None:
    """Warn at the first line outside of gml."""
    if inside_parallel.get():
        logger.info(message)
        return
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "gml":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
