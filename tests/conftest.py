"""Fixtures of all tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The module `_reference.py`: test files cannot import each other in importlib mode."""
    spec = importlib.util.spec_from_file_location("_reference", Path(__file__).with_name("_reference.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
