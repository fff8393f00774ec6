"""Gene sets that a user passes, in one form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SOURCE, TARGET, WEIGHT = "source", "target", "weight"  # columns of decoupler


def read_sets(gene_sets: object) -> pd.DataFrame:
    """The sets as columns source, target and weight, every pair once, without weights of 0."""
    if isinstance(gene_sets, pd.DataFrame):
        net = _from_frame(gene_sets)
    elif isinstance(gene_sets, Mapping):
        net = _from_lists(gene_sets)
    elif isinstance(gene_sets, str | PathLike):
        net = _from_lists(_read_gmt(Path(gene_sets)))
    else:
        kind = type(gene_sets).__name__
        msg = f"`gene_sets` must be the path of a GMT file, a dictionary or a DataFrame, got {kind}."
        raise TypeError(msg)
    net = net[net[WEIGHT] != 0].drop_duplicates()
    repeated = net.duplicated([SOURCE, TARGET])
    if repeated.any():
        name, gene = net.loc[repeated, [SOURCE, TARGET]].iloc[0]
        msg = f"`gene_sets` gives the gene {gene!r} two weights in the set {name!r}."
        raise ValueError(msg)
    if net.empty:
        msg = "`gene_sets` holds no genes."
        raise ValueError(msg)
    return net


def _from_frame(frame: pd.DataFrame) -> pd.DataFrame:
    if missing := [column for column in (SOURCE, TARGET) if column not in frame]:
        msg = f"`gene_sets` has no column {missing[0]!r}; it has {', '.join(map(repr, frame.columns))}."
        raise KeyError(msg)
    if WEIGHT in frame and not pd.api.types.is_numeric_dtype(frame[WEIGHT]):
        msg = f"`gene_sets` must hold numbers in its column {WEIGHT!r}, got {frame[WEIGHT].dtype}."
        raise ValueError(msg)
    weights = frame[WEIGHT].to_numpy(dtype=np.float64, na_value=np.nan) if WEIGHT in frame else np.ones(len(frame))
    if frame[[SOURCE, TARGET]].isna().any(axis=None) or not np.isfinite(weights).all():
        msg = "`gene_sets` holds missing names or weights that are not finite; drop these rows."
        raise ValueError(msg)
    names = {column: frame[column].astype(str).to_numpy() for column in (SOURCE, TARGET)}
    return pd.DataFrame(names | {WEIGHT: weights})


def _from_lists(sets: Mapping[Any, Iterable[Any]]) -> pd.DataFrame:
    for name, genes in sets.items():
        if isinstance(genes, str) or not isinstance(genes, Iterable):
            msg = f"`gene_sets` must give a list of genes for every set, got {genes!r} for {name!r}."
            raise TypeError(msg)
    rows = [(str(name), str(gene), 1.0) for name, genes in sets.items() for gene in genes]
    return pd.DataFrame(rows, columns=[SOURCE, TARGET, WEIGHT])


def _read_gmt(path: Path) -> dict[str, list[str]]:
    """One set per line: its name, a description, its genes, with tabs in between."""
    if not path.is_file():
        msg = f"There is no file {str(path)!r}. `gene_sets` takes a GMT file; no library is fetched by name."
        raise ValueError(msg)
    sets: dict[str, list[str]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        msg = f"{path} is no GMT file: {error}"
        raise ValueError(msg) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        if not name or not rest:
            msg = f"Line {number} of {path} is no gene set: a name, a description and genes, with tabs in between."
            raise ValueError(msg)
        if name in sets:
            msg = f"{path} has two sets named {name!r}, the second in line {number}."
            raise ValueError(msg)
        sets[name] = [gene for gene in rest[1:] if gene]
    return sets
