"""A decorator for `tl`: the modalities of a MuData that a metric or `use_rep` selects, as one AnnData, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from gml._anndata import GENES, JOINED, JOINED_MARK, MODALITIES, Keys, is_mudata, walk, write_all, write_metric
from gml._evaluate import Report
from gml._metric import GroundMetric, read_metric

from ._join import Part, genes_of, join, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

Function = TypeVar("Function", bound="Callable[..., Any]")

HOLDERS = ("adata", "query", "reference")  # arguments that hold cells


@dataclass(slots=True)
class Taken:
    """The modalities that a call reads, and the arguments with which it reads the joined AnnData."""

    parts: list[Part]
    """Modalities; the features of a single one are found as for any AnnData."""
    use_rep: str | None = None
    layer: str | None = None
    through_genes: bool = False
    """Whether a metric computes the features of unseen cells from genes."""
    home: MuData | None = None
    """The cells that the metric was learned on, if they are among the arguments."""
    is_shared: bool = False
    """Whether `use_rep` lies in ``mdata.obsm``: one representation of all modalities."""

    def of(self, mdata: MuData) -> AnnData:
        """The cells of a MuData; scales are estimated in the first one and kept for the others."""
        for part in self.parts:
            _check_modality(mdata, part.modality)
        if len(self.parts) == 1 and not self.is_shared:
            return select(mdata, self.parts[0])
        cells, self.parts = join(
            mdata, self.parts, rep_needed=not self.is_shared and (mdata is self.home or not self.through_genes)
        )
        return cells

    def modalities_of(self, mdata: MuData) -> list[str]:
        """Modalities whose genes the cells have, in their order."""
        names = [part.modality for part in self.parts]
        return names if len(names) == 1 else [name for name in names if mdata.mod[name].X is not None]

    def entry(self, cells: AnnData, run: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
        """The entry of ``uns`` with one row per modality: its features, and its share in the distances of a metric."""
        if self.is_shared:
            return {}
        rows = self.parts
        if len(rows) == 1:
            params = run["params"]
            rows = [Part(rows[0].modality, params["use_rep"], params["layer"], 1.0)]
        table = pd.DataFrame([asdict(replace(part, layer=part.layer or "")) for part in rows])
        if "components" in run:
            table["share"] = [1.0] if len(rows) == 1 else _shares(cells, run["components"])
        return {MODALITIES: table}


def choose(given: Mapping[str, Any], holders: Sequence[MuData]) -> Taken:
    """The modalities of the metric, or those that `use_rep` and `layer` select."""
    use_rep, layer = given.get("use_rep"), given.get("layer")
    metric = given.get("metric")
    home = None
    if isinstance(metric, str):
        home = next((holder for holder in reversed(holders) if metric in holder.uns), None)
        metric = None if home is None else read_metric(home, metric)
    if not isinstance(metric, GroundMetric):
        taken = _selected(holders[-1], use_rep, layer)
        if given.get("recompute") is not None and (len(taken.parts) > 1 or taken.is_shared):
            first = next(iter(holders[0].mod))
            msg = f"recompute={given['recompute']!r} works on one modality; choose it, e.g. use_rep={first!r}."
            raise ValueError(msg)
        return taken
    if metric.modalities is None:
        rep = metric.params.get("use_rep")
        if home is None or rep not in home.obsm:
            modality = next(iter(holders[0].mod))
            msg = f"The metric was learned on an AnnData, of no known modality; pass it, e.g. mdata[{modality!r}]."
            raise ValueError(msg)
        return Taken([Part(name) for name in holders[0].mod], use_rep=use_rep, layer=layer, is_shared=True)
    columns = [metric.modalities[name].tolist() for name in ("modality", "use_rep", "layer", "scale")]
    stored = [Part(str(name), str(rep), layer or None, scale) for name, rep, layer, scale in zip(*columns, strict=True)]
    if use_rep is not None or layer is not None:
        _check_same_features(stored, _selected(holders[0], use_rep, layer))
    if metric.params.get("transformed", False):
        home = None
    return Taken(stored, through_genes=metric.gene_map is not None, home=home)


def _selected(mdata: MuData, use_rep: object, layer: str | None) -> Taken:
    """The modalities that the arguments select."""
    reps: Mapping[str, str | None]
    if isinstance(use_rep, str) and use_rep in mdata.mod:
        reps = {use_rep: None}
    elif use_rep is None or use_rep == GENES:
        reps = dict.fromkeys(mdata.mod, use_rep)
    elif isinstance(use_rep, str):
        if use_rep not in mdata.obsm:
            keys = ", ".join(repr(key) for key in mdata.obsm if key not in mdata.mod) or "nothing"
            both = f"use_rep={{{next(iter(mdata.mod))!r}: {use_rep!r}}}"
            msg = (
                f"use_rep={use_rep!r} is neither a modality of the MuData ({_names(mdata)}) nor in mdata.obsm "
                f"({keys}). For a representation of one modality name both, e.g. {both}."
            )
            raise KeyError(msg)
        return Taken([Part(name) for name in mdata.mod], use_rep=use_rep, layer=layer, is_shared=True)
    elif isinstance(use_rep, Mapping) and use_rep:
        reps = use_rep
    else:
        expected = "a modality, a mapping from modalities to representations, or None"
        msg = f"`use_rep` of a MuData must be {expected}, got {use_rep!r}."
        raise TypeError(msg)
    for modality, rep in reps.items():
        _check_modality(mdata, modality)
        if rep is not None and not isinstance(rep, str):
            msg = f"`use_rep` must name a representation of {modality!r} by a string or None, got {rep!r}."
            raise TypeError(msg)
    if len(reps) == 1:
        ((modality, rep),) = reps.items()
        return Taken([Part(modality)], use_rep=rep, layer=layer)
    parts = [Part(modality, rep, layer) for modality, rep in reps.items()]
    return Taken(parts, use_rep=None if use_rep is None else JOINED)


def _check_same_features(stored: Sequence[Part], selected: Taken) -> None:
    """Raise unless the arguments select the features of the metric."""
    own = {part.modality: part for part in stored}
    given = {part.modality: (part.use_rep, part.layer) for part in selected.parts}
    if len(given) == 1:
        given = dict.fromkeys(given, (selected.use_rep, selected.layer))
    fits = not selected.is_shared and given.keys() == own.keys()
    if not fits or any(
        rep not in {None, own[name].use_rep} or layer not in {None, own[name].layer}
        for name, (rep, layer) in given.items()
    ):
        learned = {part.modality: part.use_rep for part in stored}
        msg = f"`use_rep` and `layer` do not fit: the metric was learned with use_rep={learned}. Leave them out."
        raise ValueError(msg)


def _check_modality(mdata: MuData, modality: object) -> None:
    if modality not in mdata.mod:
        msg = f"The MuData has no modality {modality!r}; it has {_names(mdata)}."
        raise KeyError(msg)


def _names(mdata: MuData) -> str:
    return ", ".join(map(repr, mdata.mod))


def _shares(cells: AnnData, components: NDArray[np.float64]) -> list[float]:
    r"""Share of each modality in the squared distances between cells in the learned space; the sum is 1.

    With :math:`z = \sum_m z_m`, the images of the features of modality m, it is
    :math:`\operatorname{tr} \operatorname{cov}(z_m, z) / \operatorname{tr} \operatorname{cov}(z)`.
    """
    modality = cells.uns[JOINED_MARK]["modality"]
    n_modalities = int(modality.max()) + 1
    parts = np.stack([np.where(modality == m, components, 0.0) for m in range(n_modalities)])  # (m, k, d)
    flat = parts.reshape(-1, components.shape[1]).T  # (d, m k)
    images = np.concatenate([block @ flat for _, block in walk(cells.obsm[JOINED])])
    images = (images - images.mean(axis=0)).reshape(len(images), n_modalities, -1)
    together = np.einsum("nmk,nk->m", images, images.sum(axis=1))
    total = float(together.sum())
    return (together / total if total > 0 else np.full(n_modalities, np.nan)).tolist()


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
