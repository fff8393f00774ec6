"""Fixtures of all tests."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gml._cohort import _gaussians, _sketch


@pytest.fixture(scope="session", autouse=True)
def small_patients_in_threads() -> Iterator[None]:
    """As large ones are, so that tests of workers, interrupts and warnings reach the threads."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (_sketch, _gaussians):
            patch.setattr(module, "THREADS_FROM", 1)
        yield


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The module `_reference.py`: test files cannot import each other in importlib mode."""
    spec = importlib.util.spec_from_file_location("_reference", Path(__file__).with_name("_reference.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
