"""Checks of what a user passes: each returns the checked value or says what was wrong with it."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_int(value: object, *, name: str, low: int = 1, high: int | None = None) -> int:
    """An integer between `low` and `high`, both included."""
    expected = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        msg = f"`{name}` must be {expected}, got {value!r}."
        raise TypeError(msg)
    number = int(value)
    if number < low or (high is not None and number > high):
        msg = f"`{name}` must be {expected}, got {value!r}."
        raise ValueError(msg)
    return number


def check_float(
    value: object, *, name: str, low: float = 0.0, high: float = math.inf, low_allowed: bool = True
) -> float:
    """A finite number from `low` (itself only if `low_allowed`) to `high`."""
    bound = f"at least {low:g}" if low_allowed else f"above {low:g}"
    expected = f"a finite number {bound}" + ("" if math.isinf(high) else f" and at most {high:g}")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        msg = f"`{name}` must be {expected}, got {value!r}."
        raise TypeError(msg)
    number = float(value)
    if not math.isfinite(number) or number < low or number > high or (number == low and not low_allowed):
        msg = f"`{name}` must be {expected}, got {value!r}."
        raise ValueError(msg)
    return number


def check_choice(value: object, *, name: str, choices: Iterable[Any]) -> Any:
    """One of `choices`."""
    choices = list(choices)
    for choice in choices:
        is_alike = isinstance(value, type(choice)) or (isinstance(value, Integral) and isinstance(choice, int))
        if is_alike and isinstance(value, bool) == isinstance(choice, bool) and value == choice:
            return choice
    msg = f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}."
    raise (ValueError if isinstance(value, str | Real) else TypeError)(msg)


def check_str(value: object, *, name: str) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        msg = f"`{name}` must be a string, got {value!r}."
        raise TypeError(msg)
    if not value:
        msg = f"`{name}` must not be empty, got {value!r}."
        raise ValueError(msg)
    return value


def check_seed(rng: int | np.random.Generator | None) -> int:
    """One integer that repeats the call: `rng` itself, or drawn from it (from the system, if `None`)."""
    if isinstance(rng, np.random.Generator) or rng is None:
        return int(np.random.default_rng(rng).integers(2**32))
    if isinstance(rng, bool | np.bool_) or not isinstance(rng, Integral):
        msg = f"`rng` must be an integer, a numpy Generator or None, got {rng!r}."
        raise TypeError(msg)
    return check_int(rng, name="rng", low=0, high=2**32 - 1)


def check_rng(rng: int | np.random.Generator | None) -> np.random.Generator:
    """The generator itself, or a new one of that seed."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(check_seed(rng))


def check_n_points(n_points: object) -> int | None:
    """Points of a sketch, at least one, or `None` for all cells."""
    return None if n_points is None else check_int(n_points, name="n_points")


def check_n_jobs(n_jobs: object) -> int | None:
    """A number of workers as joblib counts them, or `None`."""
    if n_jobs is None:
        return None
    number = check_int(n_jobs, name="n_jobs", low=-(2**31))
    if number == 0:
        msg = "`n_jobs` must not be 0; pass None or -1 for all cores."
        raise ValueError(msg)
    return number
