"""Cohorts to try things on, with a known truth."""

from __future__ import annotations

from ._gaussian_cohort import gaussian_cohort
from ._simulated_cohort import simulated_cohort

__all__ = ["gaussian_cohort", "simulated_cohort"]
