"""The public surface itself: signatures, docstrings, exports, and what an import does."""

import dataclasses
import doctest
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import gml

NAMESPACES: list[ModuleType] = [gml.datasets, gml.get, gml.pl, gml.pp, gml.tl]
SETTINGS: list[ModuleType] = [gml.methods, gml.solvers]

#: what each namespace works on
DATA = {"gml.get": "adata", "gml.pl": "patients", "gml.pp": "patients", "gml.tl": "adata"}
#: positional arguments other than those
POSITIONAL = {
    "gml.datasets.cellxgene": ["dataset_version_id"],
    "gml.tl.transform": ["adata", "metric"],
    "gml.tl.predict": ["query", "reference"],
    "gml.pl.metric": ["adata"],
    "gml.pl.explain_distance": ["table"],
    "gml.pl.loadings": ["adata"],
    "gml.tl.explain_distance": ["adata", "p", "q"],
    "gml.tl.transport_plan": ["adata", "p", "q"],
    "gml.tl.score_patients": ["adata", "patients"],
    "gml.tl.enrich": ["table", "gene_sets"],
    "gml.pl.loss": ["adata"],
    "gml.pl.rank_cell_types": ["table"],
    "gml.pl.rank_genes": ["table"],
    "gml.pl.transport_plan": ["table"],
    "gml.get.distances": ["patients"],
    "gml.get.patpy": ["patients"],
    "gml.pl.confusion_matrix": ["result"],
    "gml.pl.cross_validate": ["result"],
    "gml.pl.spectrum": ["adata"],
    "gml.pl.tune": ["data"],
    "gml.pp.equalize_cells": ["adata"],
    "gml.pp.sketch": ["adata"],
}
#: examples that are shown and not run, since they download
DOWNLOADS = {"gml.datasets.cellxgene", "gml.datasets.kumar23", "gml.datasets.kuppe22"}
MOST_ARGUMENTS = 14
#: one argument per column that a study can have, and the settings of learning, which are judged together; distances
#: within cell types share all settings, and the cells, with those of all cells
MORE_ARGUMENTS = {"gml.tl.cross_validate": 15, "gml.tl.patient_distances": 16, "gml.tl.predict": 15}


def public_functions() -> dict[str, Callable[..., Any]]:
    found = {}
    for namespace in NAMESPACES:
        found |= {f"{namespace.__name__}.{name}": getattr(namespace, name) for name in namespace.__all__}
    return found


def public_classes() -> dict[str, type]:
    names = ("CrossValidation", "GroundMetric", "PermutationTest", "Tuning")
    found = {f"gml.{name}": getattr(gml, name) for name in names}
    for module in SETTINGS:
        found |= {f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__}
    return found


FUNCTIONS, CLASSES = public_functions(), public_classes()
each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_class = pytest.mark.parametrize("name", CLASSES)


def sections(docstring: str) -> dict[str, str]:
    """Text of a numpy docstring by section; what stands above the first is under ``""``."""
    parts = re.split(r"^(\w[\w ]*)\n-+\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def described(section: str) -> list[str]:
    """Names that a section describes: lines without indent, several names parted by commas."""
    lines = [line for line in section.splitlines() if re.match(r"\w", line)]
    return [name.strip() for line in lines for name in line.split(" : ")[0].split(",")]


@pytest.mark.parametrize("module", [gml, *NAMESPACES, *SETTINGS], ids=lambda module: module.__name__)
def test_exports(module: ModuleType) -> None:
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    assert module.__doc__
    if hasattr(module, "__path__"):  # the others are one file, with helpers beside what is public
        public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        home = {name: getattr(value, "__module__", getattr(value, "__name__", "")) for name, value in public.items()}
        ours = {name for name, place in home.items() if place.startswith("gml")}
        assert ours == set(module.__all__)


@pytest.mark.parametrize("module", SETTINGS, ids=lambda module: module.__name__)
def test_settings_show_what_users_want(module: ModuleType) -> None:
    """On tab; what else the file holds can be imported all the same."""
    assert dir(module) == module.__all__
    assert "NAMED" not in dir(module)
    assert hasattr(module, "NAMED")


@each_function
def test_data_first_and_the_rest_by_keyword(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    positional = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    data = DATA.get(name.rpartition(".")[0])
    assert positional == POSITIONAL.get(name, [] if data is None else [data])
    assert all(parameters[argument].default is inspect.Parameter.empty for argument in positional)
    assert all(p.default is not p.empty for p in parameters.values() if p.kind is p.KEYWORD_ONLY)
    assert not any(p.kind in {p.VAR_KEYWORD, p.VAR_POSITIONAL} for p in parameters.values())
    assert len(parameters) <= MORE_ARGUMENTS.get(name, MOST_ARGUMENTS)


@each_function
def test_everything_is_annotated(name: str) -> None:
    signature = inspect.signature(FUNCTIONS[name])
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert not any(re.search(r"\bAny\b", str(p.annotation)) for p in signature.parameters.values())


@each_function
def test_docstring(name: str) -> None:
    function = FUNCTIONS[name]
    assert function.__doc__
    parts = sections(function.__doc__)
    assert {"Parameters", "Returns", "Raises", "Examples"} <= set(parts)
    assert sorted(described(parts["Parameters"])) == sorted(inspect.signature(function).parameters)
    assert ">>> " in parts["Examples"]
    assert parts[""].splitlines()[0].endswith(".")
    raised = described(parts["Raises"])
    assert raised
    assert set(raised) <= {"KeyError", "MemoryError", "OSError", "TypeError", "ValueError"}
    returns_none = inspect.signature(function).return_annotation == "None"
    assert parts["Returns"].startswith("`None`; it writes") == returns_none


@pytest.mark.parametrize("name", FUNCTIONS | CLASSES)
def test_example(name: str) -> None:
    """Each has one, and pytest runs it."""
    found = doctest.DocTestFinder(recurse=False).find((FUNCTIONS | CLASSES)[name], name)
    lines = [line for test in found for line in test.examples]
    assert len(lines) > 1
    assert any(doctest.SKIP in line.options for line in lines) == (name in DOWNLOADS)


def test_examples_are_collected(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getoption("doctestmodules")
    assert "src" in pytestconfig.getini("testpaths")


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith("gml.tl.")])
def test_shapes_and_slots_are_given(name: str) -> None:
    parts = sections(FUNCTIONS[name].__doc__ or "")
    assert "adata" not in parts or "Cells × genes" in parts["Parameters"]
    assert re.search(r"\(\w+, [\w ]+\)|`\w+`", parts["Returns"])


@pytest.mark.parametrize("name", ["learn_metric", "patient_distances", "predict", "rank_genes", "transform"])
def test_the_source_is_cited(name: str) -> None:
    assert ":cite:p:`Kuehn2025`" in FUNCTIONS[f"gml.tl.{name}"].__doc__


@each_class
def test_classes_are_frozen_and_documented(name: str) -> None:
    cls = CLASSES[name]
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")  # the signature, which dataclasses put there otherwise
    assert cls.__dataclass_params__.frozen
    assert not hasattr(cls, "__dict__") or "__slots__" in vars(cls)
    for method in vars(cls).values():
        if inspect.isfunction(method) and not method.__name__.startswith("_"):
            assert method.__doc__
            assert inspect.signature(method).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("cls", [gml.methods.Auto, gml.methods.Triplet, gml.methods.Discriminant, gml.solvers.Exact])
def test_settings_are_values(cls: type) -> None:
    """Keyword-only, hashable, equal by content, fields explained in the source."""
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
    source = inspect.getsource(cls)
    for field in dataclasses.fields(cls):
        assert field.kw_only
        assert re.search(rf'^    {field.name}: .+\n    """', source, re.MULTILINE)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(cls(), field.name, 1)
    with pytest.raises(TypeError, match="positional"):
        cls(1)


def test_keys_have_one_default_everywhere() -> None:
    defaults = {"patient_key": "patient", "disease_key": "disease", "key": "gml", "key_added": "gml", "rng": 0}
    defaults |= {"n_jobs": None, "use_rep": None, "layer": None, "solver": "exact", "n_points": 64}
    others = {("gml.tl.rotate", "key_added")}  # None: the key itself
    others |= {("gml.datasets.cellxgene", "patient_key")}  # what the file calls it
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in defaults and (name, parameter.name) not in others:
                assert parameter.default == defaults[parameter.name], name


STATE = """
import json, logging, os, random, sys, warnings
import matplotlib as mpl, numpy as np, pandas as pd
import {first}
import torch

def state():
    known = logging.root.manager.loggerDict.items()
    loggers = {{name: logger for name, logger in known if isinstance(logger, logging.Logger)}}
    return {{
        "torch seed": torch.initial_seed(),
        "torch random": torch.get_rng_state().sum().item(),
        "torch threads": torch.get_num_threads(),
        "torch dtype": str(torch.get_default_dtype()),
        "random": hash(random.getstate()),
        "numpy random": hash(np.random.get_state()[1].tobytes()),
        "numpy errors": np.geterr(),
        "numpy printing": str(np.get_printoptions()),
        "warnings": [str(item) for item in warnings.filters],
        "log handlers": [str(handler) for handler in logging.root.handlers],
        "log level": logging.root.level,
        "other handlers": sorted(name for name, logger in loggers.items() if logger.handlers),
        "other levels": sorted((n, logger.level) for n, logger in loggers.items() if logger.level and n != "gml"),
        "gml level": logging.getLogger("gml").level,
        "rcParams": {{key: str(value) for key, value in mpl.rcParams.items()}},
        "environment": dict(os.environ),
        "pandas": [str(pd.get_option(name)) for name in ("display.width", "display.max_rows")],
        "path": sys.path,
        "folder": os.listdir(),
    }}

before, modules = state(), set(sys.modules)
print("dependencies are imported", file=sys.stderr)
import gml
after = state()
changed = {{key: [before[key], after[key]] for key in before if before[key] != after[key]}}
print(json.dumps([changed, sorted(set(sys.modules) - modules)]))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], set[str]]:
    """What changed when gml was imported after its dependencies, and the modules that came with it."""
    run = subprocess.run(
        [sys.executable, "-c", STATE.format(first="ot, scanpy")],
        cwd=tmp_path_factory.mktemp("empty"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr.endswith("dependencies are imported\n")  # some of which may warn
    changed, modules = json.loads(run.stdout)
    return changed, set(modules)


@pytest.mark.slow
def test_import_changes_no_global_state(imported: tuple[dict[str, Any], set[str]]) -> None:
    assert imported[0] == {}


@pytest.mark.slow
def test_import_loads_little_more_than_its_dependencies(imported: tuple[dict[str, Any], set[str]]) -> None:
    new = {name.partition(".")[0] for name in imported[1]}
    assert "gml" in new
    optional = {"decoupler", "distributed", "igraph", "leidenalg", "mudata", "muon", "patpy", "pooch", "requests"}
    optional |= {"filelock", "dask", "IPython", "pynndescent", "umap", "xarray", "zarr"}
    assert not new & optional
