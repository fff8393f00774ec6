"""Cohorts to try things on: simulated ones with a known truth, and public ones."""

from __future__ import annotations

from ._cellxgene import cellxgene, kumar23, kuppe22
from ._gaussian_cohort import gaussian_cohort
from ._simulated_cohort import simulated_cohort

__all__ = ["cellxgene", "gaussian_cohort", "kumar23", "kuppe22", "simulated_cohort"]
