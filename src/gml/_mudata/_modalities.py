"""A decorator for functions of `tl`: the modalities of a metric become one AnnData, and its results go back."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from anndata import AnnData

from gml._anndata import MODALITIES, Keys, is_mudata, write_all, write_metric
from gml._evaluate import Report

from ._join import genes_of
from ._taken import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

    from ._taken import Taken

Function = TypeVar("Function", bound="Callable[..., Any]")

HOLDERS = ("adata", "query", "reference")  # arguments that hold cells


def takes_mudata(function: Function) -> Function:
    """Let a function take a MuData wherever it takes cells; `use_rep` may then select modalities."""
    parameters = signature(function)

    @wraps(function)
    def with_modalities(*args: Any, **kwargs: Any) -> Any:
        if not any(map(is_mudata, (*args, *kwargs.values()))):
            return function(*args, **kwargs)
        call = parameters.bind(*args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        asked = {name: given[name] for name in ("use_rep", "layer") if name in given}
        holders = {name: given[name] for name in HOLDERS if given.get(name) is not None}
        for name, holder in holders.items():
            _check_mudata(holder, name=name)
        taken = choose(given, list(holders.values()))
        # modalities are scaled as in the reference, which is the last of the arguments
        cells = {name: taken.of(holder) for name, holder in reversed(holders.items())}
        given.update(cells)
        given.update({name: getattr(taken, name) for name in asked})
        result = function(*call.args, **call.kwargs)
        first, key = next(iter(holders)), str(given.get("key_added") or given.get("metric"))
        if result is None:
            _write_back(holders[first], cells[first], taken, key=key)
        elif isinstance(result, AnnData) and "key_added" in given:
            result.uns[key] |= taken.entry(cells[first], {"params": result.uns[key]["params"]})
        elif isinstance(result, Report):
            result = replace(result, params=result.params | asked)
        return result

    return cast("Function", with_modalities)


def _check_mudata(data: Any, *, name: str) -> None:
    if not is_mudata(data):
        msg = f"`{name}` must be a MuData, as the other cells are, got {type(data).__name__}."
        raise TypeError(msg)
    if data.n_obs == 0 or not data.mod:
        msg = f"`{name}` is empty: it holds no cells."
        raise ValueError(msg)
    if data.axis != 0:
        msg = f"The modalities of `{name}` must share cells (axis=0), got a MuData with axis={data.axis}."
        raise ValueError(msg)


def _write_back(mdata: MuData, cells: AnnData, taken: Taken, *, key: str) -> None:
    """Copy what a function wrote to the same slots of the MuData; genes of other modalities have loadings 0."""
    keys = Keys(key)
    run = cells.uns.get(keys.run)
    if run is not None and run is not mdata.uns.get(keys.run):
        if MODALITIES not in run:
            run |= taken.entry(cells, run)
        loadings = None
        if keys.loadings in cells.varm:
            loadings = np.zeros((mdata.n_vars, cells.varm[keys.loadings].shape[1]))
            loadings[genes_of(mdata, taken.modalities_of(mdata))] = cells.varm[keys.loadings]
        write_metric(mdata, key, run=run, embedding=cells.obsm[keys.embedding], loadings=loadings)
    if keys.score in cells.obs:
        write_all(mdata, {("obs", keys.score): cells.obs[keys.score]})
