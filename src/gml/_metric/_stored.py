"""A stored metric, from ``adata.uns`` or a file, which may have been edited: a part of another type is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gml._anndata import MODALITIES, GeneMap, GeneScale

if TYPE_CHECKING:
    from numpy.typing import NDArray

GENE, SCALE, CHOICE = "gene_map", "gene_scale", "choice"

LONGEST = 100  # characters of a wrong value that are shown

_FLOATS = ("means", "basis", "offset", "variances")  # of a gene map
_COLUMNS = {MODALITIES: ("modality", "use_rep", "layer", "scale"), CHOICE: ()}
_TEXTS = ("patient_key", "disease_key", "donor_key", "batch_key", "use_rep", "layer", "gene_symbols", "learned_by")
_SETTINGS = ("method_settings", "learned_settings", "solver_settings")


def parsed(run: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a metric from what :meth:`GroundMetric.to_dict` wrote and what became of it on disk."""
    return {
        "components": _floats(run, "components"),
        "feature_names": _names(run, "feature_names"),
        "classes": _names(run, "classes"),
        "params": _params(run["params"]),
        "loss": _floats(run, "loss", ndim=1),
        "spectrum": _floats(run, "spectrum", ndim=1) if "spectrum" in run else np.empty(0),
        "patients": _names(run, "patients") if "patients" in run else np.empty(0, dtype=str),
        "choice": _table(run, CHOICE),
        "modalities": _table(run, MODALITIES),
        "gene_map": _gene_map(run),
    }


def format_of(run: Mapping[str, Any]) -> int:
    """The number of the format."""
    value = np.asarray(run["format"])
    if value.ndim or value.dtype.kind not in "iu":
        raise ValueError(_wrong("format", run["format"], "a whole number"))
    return int(value)


def _gene_map(run: Mapping[str, Any]) -> GeneMap | None:
    if run.get(GENE) is None:
        return None
    genes = _mapping(run, GENE)
    if missing := {"names", "means"} - set(genes):
        msg = f"`{GENE}` has no {min(missing)!r}."
        raise ValueError(msg)
    values = {key: _floats(genes, key) for key in _FLOATS if key in genes}
    return GeneMap(names=_names(genes, "names"), **values, scale=_scale(run))


def _scale(run: Mapping[str, Any]) -> GeneScale | None:
    if SCALE not in run:
        return None
    values, names = _mapping(run, SCALE), [field.name for field in fields(GeneScale)]
    if set(names) != set(values):
        msg = f"`{SCALE}` must hold {', '.join(names)}, got {', '.join(map(str, values)) or 'nothing'}."
        raise ValueError(msg)
    whole, *numbers = (_number(values, name) for name in names)
    return GeneScale(bool(whole), *numbers)


def _params(stored: Any) -> dict[str, Any]:
    """Parameters of the call, of which those that later calls read have the type that they need."""
    params = _plain(stored)
    if not isinstance(params, dict):
        raise ValueError(_wrong("params", stored, "a dict"))
    for names, kind, what in ((_TEXTS, str | None, "a string or None"), (_SETTINGS, dict, "a dict")):
        for name in names:
            if name in params and not isinstance(params[name], kind):
                raise ValueError(_wrong(f"params[{name!r}]", params[name], what))
    if "power" in params and not (isinstance(params["power"], int | float) and params["power"] in {1, 2}):
        raise ValueError(_wrong("params['power']", params["power"], "1 or 2"))
    return params


def _table(run: Mapping[str, Any], name: str) -> pd.DataFrame | None:
    if name not in run:
        return None
    if not isinstance(run[name], Mapping | pd.DataFrame):
        raise ValueError(_wrong(name, run[name], "a table"))
    try:
        table = pd.DataFrame(run[name])
    except ValueError as error:
        msg = f"`{name}` is no table: {error}."
        raise ValueError(msg) from error
    if missing := [column for column in _COLUMNS[name] if column not in table]:
        msg = f"`{name}` has no column {missing[0]!r}."
        raise ValueError(msg)
    return table


def _mapping(parts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(parts[name], Mapping):
        raise ValueError(_wrong(name, parts[name], "a dict"))
    mapping: Mapping[str, Any] = parts[name]
    return mapping


def _floats(parts: Mapping[str, Any], name: str, *, ndim: int | None = None) -> NDArray[np.float64]:
    try:
        values = np.asarray(parts[name])
    except ValueError:  # ragged lists
        values = np.array(None)
    if values.dtype.kind not in "biuf":
        raise ValueError(_wrong(name, parts[name], "an array of real numbers"))
    if ndim is not None and values.ndim != ndim:
        raise ValueError(_wrong(name, parts[name], "a list of numbers"))
    return values.astype(np.float64, copy=False)


def _number(parts: Mapping[str, Any], name: str) -> float:
    values = _floats(parts, name)
    if values.ndim or not np.isfinite(values):
        raise ValueError(_wrong(name, parts[name], "a finite number"))
    return float(values)


def _names(parts: Mapping[str, Any], name: str) -> NDArray[np.str_]:
    """Array of str; from zarr it comes with a dtype of variable length, which numpy does not cast at once."""
    values = np.asarray(parts[name], dtype=object)
    if values.ndim != 1:
        raise ValueError(_wrong(name, parts[name], "a list of names"))
    return values.astype(str)


def _plain(value: Any) -> Any:
    """Python scalars and dicts for what came back from a file as numpy scalars."""
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value


def _wrong(name: str, value: object, expected: str) -> str:
    shown = f"an array of {value.dtype} and shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return f"`{name}` must be {expected}, got {shown if len(shown) < LONGEST else type(value).__name__}."
