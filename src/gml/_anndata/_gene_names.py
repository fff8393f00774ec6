"""Genes of a metric among those of an AnnData, matched by name."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gml._base import warn

from ._slots import MODALITY, check_key, get_var

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MOST_MISSING = 0.5  # of the weight of a metric
NAMED = 3  # genes in a message
VERSIONED = re.compile(r"^(ENS[A-Z]*\d{6,})\.\d+$")


@dataclass(frozen=True, slots=True, eq=False)
class GeneMatch:
    """Positions of the genes of a metric among those of an AnnData."""

    positions: NDArray[np.intp]
    """Position of each gene, shape (g,); -1 if it is missing."""
    weight_missing: float
    """Share of the weight of the metric that missing genes carry."""
    gene_symbols: str | None
    """Column of ``adata.var`` with the names; `None` for ``adata.var_names``."""

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether each gene is present, shape (g,)."""
        return self.positions >= 0

    @property
    def params(self) -> dict[str, Any]:
        """As ``uns`` holds them."""
        counts = {"n_genes": len(self.positions), "n_missing": int((~self.present).sum())}
        return {"gene_symbols": self.gene_symbols, "genes": counts | {"weight_missing": self.weight_missing}}


def match_genes(
    adata: AnnData, names: NDArray[np.str_], *, weights: NDArray[np.float64], gene_symbols: str | None
) -> GeneMatch:
    """Match genes by name; warn of missing ones, raise if they carry more than half of the `weights`, (g,), sum 1."""
    positions = gene_positions(adata, names, gene_symbols)
    missing = np.flatnonzero(positions < 0)
    weight_missing = float(np.clip(weights[missing].sum(), 0.0, 1.0)) if missing.size < len(names) else 1.0
    match = GeneMatch(positions, weight_missing, gene_symbols)
    if not missing.size:
        return match
    heaviest = missing[np.argsort(-weights[missing], kind="stable")][:NAMED]
    listed = ", ".join(repr(str(name)) for name in names[heaviest])
    report = (
        f"{missing.size} of the {len(names)} genes of the metric are not in {_slot(gene_symbols)}, above all {listed}"
        f"{', …' if missing.size > NAMED else ''}. They carry {weight_missing:.1%} of its weight"
    )
    hint = better_names(adata, names, gene_symbols)
    if weight_missing > MOST_MISSING:
        hint = hint or " Are the genes named in the same way (symbols or identifiers)?"
        msg = f"{report}, and at least half of it must be there.{hint}"
        raise ValueError(msg)
    (warn if weight_missing > 0 else logger.info)(
        f"{report}, and are taken to be at their mean in the training cells.{hint}"
    )
    return match


def gene_positions(adata: AnnData, names: NDArray[np.str_], gene_symbols: str | None) -> NDArray[np.intp]:
    """Position of each named gene in `adata`, shape (g,), -1 if it is missing; each must be there only once."""
    var_names = gene_names(adata, gene_symbols)
    needed = np.flatnonzero(var_names.isin(names))
    matched = var_names[needed]
    if not matched.is_unique:
        repeated = matched[matched.duplicated()].unique()
        listed = ", ".join(map(repr, repeated[:NAMED])) + (", …" if len(repeated) > NAMED else "")
        hint = "Run `adata.var_names_make_unique()`."
        if gene_symbols is not None:
            hint = f"Keep one of each: `adata[:, ~adata.var[{gene_symbols!r}].duplicated()].copy()`."
        msg = f"{_slot(gene_symbols)} are not unique: {len(repeated)} genes are repeated: {listed}. {hint}"
        raise ValueError(msg)
    indices = matched.get_indexer(pd.Index(names, dtype=object))
    return np.append(needed, -1)[indices]  # an index of -1 takes the last


def gene_names(adata: AnnData, gene_symbols: str | None) -> pd.Index[Any]:
    """Names of all genes, as str: those in a column of ``adata.var``, or ``adata.var_names``; NaN stays NaN."""
    if gene_symbols is None:
        names: pd.Index[Any] = pd.Index(adata.var_names.to_numpy(dtype=str), dtype=object)
        return names
    if not isinstance(gene_symbols, str):
        msg = f"`gene_symbols` must be the name of a column of adata.var or None, got {gene_symbols!r}."
        raise TypeError(msg)
    var = get_var(adata)
    check_key(var.columns, gene_symbols, slot="adata.var", hint="Pass one of these as `gene_symbols`.")
    if (n_columns := int((var.columns == gene_symbols).sum())) > 1:
        msg = f"adata.var holds {n_columns} columns named {gene_symbols!r}; keep one."
        raise ValueError(msg)
    return _names_in(var, gene_symbols)


def better_names(adata: AnnData, names: NDArray[np.str_], gene_symbols: str | None) -> str:
    """A sentence on a column in which more of these genes would be found; empty if there is none."""
    var, genes = get_var(adata), pd.Index(names, dtype=object)
    candidates: dict[str | None, pd.Index[Any]] = {None: gene_names(adata, None)}
    var = var.loc[:, ~var.columns.duplicated()]
    for name in var.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in var.dtypes]]:
        candidates[str(name)] = _names_in(var, name)
    n_matched = {column: int(genes.isin(values).sum()) for column, values in candidates.items()}
    best = max(n_matched, key=lambda name: n_matched[name])
    n_bare = {name: int(_bare(genes).isin(_bare(values)).sum()) for name, values in candidates.items()}
    best_bare = max(n_bare, key=lambda name: n_bare[name])
    if n_bare[best_bare] > n_matched[best]:
        return f" {n_bare[best_bare]} would be there {_without_versions(best_bare, candidates[best_bare], genes)}."
    if n_matched[best] <= n_matched.get(gene_symbols, 0):
        return ""
    if best is None:
        return f" adata.var_names hold {n_matched[best]} of them: leave out `gene_symbols`."
    return f" {_slot(best)} holds {n_matched[best]} of them: pass gene_symbols={best!r}."


def _without_versions(column: str | None, values: pd.Index[Any], genes: pd.Index[Any]) -> str:
    """How to remove the versions of Ensembl ids, of the metric or of a column, in which names differ."""
    if (example := _versioned(genes)) is not None:
        step = "write them as in `metric.gene_map.names` into a column of adata.var, and name it as `gene_symbols`"
    else:
        example = _versioned(values)
        source = "var_names.to_series()" if column is None else f"var[{column!r}]"
        ids = rf"adata.{source}.astype(str).str.replace(r'\.\d+$', '', regex=True)"
        step = f"set `adata.var['gene_id'] = {ids}` and pass gene_symbols='gene_id'"
    return f"without the version in Ensembl ids such as {example!r}: {step}"


def _versioned(names: pd.Index[Any]) -> str | None:
    """The first Ensembl id with a version."""
    return next((name for name in names if isinstance(name, str) and VERSIONED.match(name)), None)


def _names_in(var: pd.DataFrame, column: str) -> pd.Index[Any]:
    """Values of a column as str; NaN stays NaN. Where modalities stand side by side, their name comes first."""
    values = var[column].astype(object)
    texts = values.astype(str)
    if MODALITY in var:
        prefix = var[MODALITY].astype(str) + ":"
        is_joined = [name.startswith(start) for name, start in zip(var.index.astype(str), prefix, strict=True)]
        texts = prefix + texts if all(is_joined) else texts
    return pd.Index(texts.where(values.notna(), values).to_numpy(), dtype=object)


def _bare(names: pd.Index[Any]) -> pd.Index[Any]:
    """Ensembl ids without their version; other names as they are."""
    return pd.Index([VERSIONED.sub(r"\1", name) if isinstance(name, str) else name for name in names], dtype=object)


def _slot(gene_symbols: str | None) -> str:
    return "adata.var_names" if gene_symbols is None else f"adata.var[{gene_symbols!r}]"
