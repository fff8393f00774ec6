"""Where results live inside AnnData, and how to read and write them.

The only module that spells slot names: `tl` writes through it, `pl` reads through it.
Reading checks: what comes out has the type it says, or the user learns what to do.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData, ImplicitModificationWarning

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping

    from numpy.typing import NDArray

LEARN_FIRST = "Run `gml.tl.learn_metric` first."
DISTANCES_FIRST = "Run `gml.tl.patient_distances` first, and pass the patients that it returns."

N_CELLS = "n_cells"
NOISE_FLOOR = "noise_floor"
PCA = "X_pca"
PCA_LOADINGS = "PCs"
HIGHLY_VARIABLE = "highly_variable"


@dataclass(frozen=True, slots=True)
class Keys:
    """Slot names that belong to one `key_added`."""

    key_added: str = "gml"

    @property
    def run(self) -> str:
        """`uns` of cells or patients: parameters, history and learned map of the run."""
        return self.key_added

    @property
    def embedding(self) -> str:
        """`obsm` of cells: cells under the learned map, shape (n_cells, k)."""
        return f"X_{self.key_added}"

    @property
    def loadings(self) -> str:
        """`varm` of cells: genes × components, shape (n_vars, k)."""
        return self.key_added

    @property
    def distances(self) -> str:
        """`obsp` of patients (p, p), or `obsm` of query patients (p, n_reference)."""
        return f"{self.key_added}_distances"

    @property
    def mds(self) -> str:
        """`obsm` of patients: classical multidimensional scaling of the distances."""
        return f"X_{self.key_added}_mds"

    @property
    def predicted(self) -> str:
        """`obs` of query patients: the predicted class."""
        return f"{self.key_added}_predicted"

    @property
    def rejected(self) -> str:
        """`obs` of query patients: whether the patient is unlike every reference patient."""
        return f"{self.key_added}_rejected"

    @property
    def probabilities(self) -> str:
        """`obsm` of query patients: one column per class."""
        return f"{self.key_added}_probabilities"


def check_anndata(adata: object, *, name: str = "adata") -> AnnData:
    """The AnnData itself, if it is one that lies in memory and holds cells."""
    if not isinstance(adata, AnnData):
        msg = f"`{name}` must be an AnnData, got {type(adata).__name__}."
        raise TypeError(msg)
    if adata.isbacked:
        msg = f"`{name}` is backed by a file, which gml cannot read yet; pass `{name}.to_memory()`."
        raise ValueError(msg)
    if adata.n_obs == 0:
        msg = f"`{name}` is empty: it holds no cells."
        raise ValueError(msg)
    return adata


def check_key_added(key: object, *, name: str = "key_added") -> str:
    """A string that can be part of slot names."""
    if not isinstance(key, str):
        msg = f"`{name}` must be a string, got {key!r}."
        raise TypeError(msg)
    if not key or "/" in key:
        msg = f"`{name}` must be a non-empty string without '/', got {key!r}: h5ad and zarr nest keys at '/'."
        raise ValueError(msg)
    return key


def get_column(adata: AnnData, key: str, *, hint: str = "") -> pd.Series[Any]:
    """Column `key` of ``adata.obs``."""
    obs = adata.obs
    if not isinstance(obs, pd.DataFrame):
        msg = f"adata.obs is a {type(obs).__name__}; load it into memory first with `adata.to_memory()`."
        raise TypeError(msg)
    if not isinstance(key, str):
        msg = f"Keys of adata.obs must be strings, got {key!r}."
        raise TypeError(msg)
    _check_key(obs.columns, key, slot="adata.obs", hint=hint)
    column = obs[key]
    if isinstance(column, pd.DataFrame):
        msg = f"adata.obs holds {column.shape[1]} columns named {key!r}; keep one."
        raise ValueError(msg)
    return column


def get_matrix(adata: AnnData, slot: str, key: str, *, hint: str = "") -> NDArray[Any]:
    """Dense array `key` of ``adata.obsm``, ``adata.obsp`` or ``adata.varm``."""
    mapping = getattr(adata, slot)
    _check_key(mapping.keys(), key, slot=f"adata.{slot}", hint=hint)
    matrix = mapping[key]
    if not isinstance(matrix, np.ndarray):
        msg = f"adata.{slot}[{key!r}] must be a dense array, got {type(matrix).__name__}; try `.toarray()`."
        raise TypeError(msg)
    return matrix


def get_run(adata: AnnData, key: str, *, hint: str = "") -> dict[str, Any]:
    """Everything that the run `key` stored in ``adata.uns``."""
    _check_key(adata.uns.keys(), key, slot="adata.uns", hint=hint)
    run = adata.uns[key]
    if not hasattr(run, "keys"):
        msg = f"adata.uns[{key!r}] is a {type(run).__name__}, not a result of gml. {hint}"
        raise ValueError(msg.strip())
    return dict(run)


@contextmanager
def quiet_about_views() -> Iterator[None]:
    """A view becomes an AnnData of its own at the first write, as everywhere in scanpy; that needs no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        warnings.filterwarnings("ignore", ".* names are not unique", UserWarning)
        yield


def write_metric(
    adata: AnnData,
    key_added: str,
    *,
    run: Mapping[str, Any],
    embedding: NDArray[np.float64],
    loadings: NDArray[np.float64] | None,
) -> None:
    """Store a metric and what it makes of the cells; the only writes that gml does to cells."""
    keys = Keys(key_added)
    with quiet_about_views():
        adata.uns[keys.run] = dict(run)
    adata.obsm[keys.embedding] = embedding
    if loadings is not None:
        adata.varm[keys.loadings] = loadings
    elif keys.loadings in adata.varm:
        del adata.varm[keys.loadings]  # those of an earlier metric of this name


def _check_key(keys: Collection[Hashable], key: str, *, slot: str, hint: str) -> None:
    if key not in keys:
        available = ", ".join(repr(k) for k in keys) or "nothing"
        msg = f"{slot} has no {key!r}; it holds {available}. {hint}"
        raise KeyError(msg.strip())
