"""Cohorts of a few patients whose cells are given."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from gml._anndata._features import Features
from gml._cohort._cohort import Cohort
from gml._cohort._design import Design


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def cohort_of() -> Callable[..., Cohort]:
    """The function that makes a cohort: test files cannot import each other in importlib mode."""
    return make_cohort


def make_cohort(clouds: Sequence[np.ndarray], rng: np.random.Generator | None = None) -> Cohort:
    """Cells in one matrix, whose rows are shuffled if there is an `rng`."""
    cells = np.concatenate(clouds)
    place = np.arange(len(cells)) if rng is None else rng.permutation(len(cells))
    matrix = np.empty_like(cells)
    matrix[place] = cells
    features = Features(matrix, np.array([f"f{i}" for i in range(cells.shape[1])]), "X_pca")
    rows = tuple(np.split(place, np.cumsum([len(x) for x in clouds])[:-1]))
    patients = np.array([f"P{i}" for i in range(len(clouds))])
    return Cohort(features, patients, rows, np.array(["a"]), Design(np.zeros(len(clouds), dtype=np.intp)))
