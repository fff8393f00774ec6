"""Where results live inside AnnData: only here slot names are spelt; `tl` writes, and `pl` reads, through it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData, ImplicitModificationWarning

from ._storage import check_on_cpu, check_real, in_memory, is_sparse, load_frame

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator

    from numpy.typing import NDArray

LEARN_FIRST = "Run `gml.tl.learn_metric` first."
DISTANCES_FIRST = "Run `gml.tl.patient_distances` first, and pass the patients that it returns."

N_CELLS = "n_cells"
NOISE_FLOOR = "noise_floor"
WEIGHT = "weight"
SKETCH = "gml_sketch"
SKETCH_FORMAT = 1
SOURCE = "gml_source"
PCA = "X_pca"
PCA_LOADINGS = "PCs"
HIGHLY_VARIABLE = "highly_variable"
REPRESENTATIONS = "sample_representations"
MODALITIES = "modalities"
MODALITY = "modality"
JOINED = "X_joint"
JOINED_MARK = "gml_joined"
_NOTHING = object()  # absence of a value, which may be `None`
ROUNDING = 1e-6  # of the largest distance, by which the two triangles may differ


class Keys:
    """Slot names that belong to one `key_added`."""

    def __init__(self, key_added: str = "gml") -> None:
        self.run = key_added
        """`uns` of cells or patients: parameters, history and learned map of the run."""
        self.embedding = f"X_{key_added}"
        """`obsm` of cells: cells under the learned map, shape (n_cells, k)."""
        self.loadings = key_added
        """`varm` of cells: genes × components, shape (n_vars, k)."""
        self.distances = f"{key_added}_distances"
        """`obsp` of patients (p, p), or `obsm` of query patients (p, n_reference)."""
        self.mds = f"X_{key_added}_mds"
        """`obsm` of patients: classical multidimensional scaling of the distances."""
        self.means = f"X_{key_added}_means"
        """`obsm` of patients without all distances: mean of their cells where the ground cost is taken, (p, k)."""
        self.neighbors = f"{key_added}_neighbors"
        """`uns` of patients for patpy: their graph, whose matrices in `obsp` start with this name."""
        self.predicted = f"{key_added}_predicted"
        """`obs` of query patients: the predicted class."""
        self.rejected = f"{key_added}_rejected"
        """`obs` of query patients: whether the patient is unlike every reference patient."""
        self.probabilities = f"{key_added}_probabilities"
        """`obsm` of query patients: one column per class."""
        self.score = f"{key_added}_score"
        """`obs` of cells: how far they set their patient apart from other diseases."""

    def scores(self, diseases: Iterable[str]) -> list[str]:
        """`obs` of patients: position between typical patients, one column per disease, a "/" in its name as "_"."""
        return [f"{self.score}_{name}" for name in flat_names(diseases)]


def flat_names(classes: Iterable[str]) -> list[str]:
    """Unique names of columns for classes, in their order, without "/", at which files nest keys."""
    names: list[str] = []
    for name in (str(name).replace("/", "_") for name in classes):
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def check_anndata(adata: object, *, name: str = "adata") -> AnnData:
    """The AnnData itself, if it is one and holds cells, in memory or on disk."""
    if not isinstance(adata, AnnData):
        msg = f"`{name}` must be an AnnData, got {type(adata).__name__}."
        raise TypeError(msg)
    for slot in ("obs", "var"):
        table = getattr(adata, slot)
        if getattr(table, "index_dim", None) != getattr(table, "true_index_dim", None):
            msg = f"{name}.{slot}_names were not read; call `read_lazy` without `load_annotation_index=False`."
            raise ValueError(msg)
    if adata.n_obs == 0:
        msg = f"`{name}` is empty: it holds no cells."
        raise ValueError(msg)
    # genes are read last, so their storage is checked first; of a view no more than its type
    if not adata.isbacked:  # what lies in a file is no array of a GPU
        check_on_cpu((adata[:0] if adata.is_view else adata).X, name=f"{name}.X")
    return adata


def is_mudata(data: object) -> bool:
    """Whether it is a MuData."""
    mudata = sys.modules.get("mudata")  # imported wherever there is a MuData
    return mudata is not None and isinstance(data, mudata.MuData)


def check_holder(data: Any, *, name: str = "adata") -> AnnData:
    """The AnnData or MuData itself; both hold results in slots of the same names."""
    return data if is_mudata(data) else check_anndata(data, name=name)


def check_key_added(key: object, *, name: str = "key_added") -> str:
    """The key itself, if it can be part of slot names."""
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
    check_key(obs.columns, key, slot="adata.obs", hint=hint)
    column = obs[key] if isinstance(obs, pd.DataFrame) else load_frame(obs[[key]])[key]
    if isinstance(column, pd.DataFrame):
        msg = f"adata.obs holds {column.shape[1]} columns named {key!r}; keep one."
        raise ValueError(msg)
    return column


def obs_columns(adata: AnnData) -> Iterator[tuple[Any, pd.Series[Any]]]:
    """Names and values of the columns of ``adata.obs``, one read after the other."""
    obs = adata.obs
    if isinstance(obs, pd.DataFrame):
        yield from obs.items()
    else:
        yield from ((name, get_column(adata, name)) for name in obs)


def get_var(adata: AnnData) -> pd.DataFrame:
    """A copy of ``adata.var``."""
    var: pd.DataFrame = load_frame(adata.var).copy()
    return var


def colors_of(adata: AnnData, columns: Iterable[Hashable]) -> dict[str, list[Any]]:
    """Colours in ``adata.uns`` of some columns of ``adata.obs``, as scanpy stores them."""
    stored = {f"{column}_colors": in_memory(adata.uns.get(f"{column}_colors")) for column in columns}
    return {key: list(colors) for key, colors in stored.items() if isinstance(colors, list | tuple | np.ndarray)}


def get_matrix(adata: AnnData, slot: str, key: str, *, hint: str = "") -> NDArray[Any]:
    """Dense array `key` of ``adata.obsm``, ``adata.obsp`` or ``adata.varm``."""
    mapping = getattr(adata, slot)
    check_key(mapping.keys(), key, slot=f"adata.{slot}", hint=hint)
    matrix = in_memory(mapping[key])
    check_on_cpu(matrix, name=f"adata.{slot}[{key!r}]")
    if not isinstance(matrix, np.ndarray):
        msg = f"adata.{slot}[{key!r}] must be a dense array, got {type(matrix).__name__}; try `.toarray()`."
        raise TypeError(msg)
    check_real(matrix, name=f"adata.{slot}[{key!r}]")
    return matrix


def get_params(adata: AnnData, key: str) -> Mapping[str, Any]:
    """The parameters of the run `key`; empty if there are none."""
    run = adata.uns.get(Keys(key).run)
    params = run.get("params") if isinstance(run, Mapping) else None
    return params if isinstance(params, Mapping) else {}


def get_run(adata: AnnData, key: str, *, hint: str = "") -> dict[str, Any]:
    """Everything that the run `key` stored in ``adata.uns``."""
    check_key(adata.uns.keys(), key, slot="adata.uns", hint=hint)
    run = in_memory(adata.uns[key])
    if not hasattr(run, "keys"):
        msg = f"adata.uns[{key!r}] is a {type(run).__name__}, not a result of gml. {hint}"
        raise ValueError(msg.strip())
    return dict(run)


def joined_features(adata: AnnData) -> tuple[NDArray[np.str_], NDArray[np.intp]] | None:
    """Names and modality numbers, each (d,), of the features of modalities side by side; `None` for others."""
    if JOINED_MARK not in adata.uns or JOINED not in adata.obsm:
        return None
    mark, shape = in_memory(adata.uns[JOINED_MARK]), adata.obsm[JOINED].shape[1:]
    names, modality = (mark.get(part) if isinstance(mark, Mapping) else None for part in ("names", "modality"))
    if (
        not (isinstance(names, np.ndarray) and isinstance(modality, np.ndarray))
        or not (names.shape == modality.shape == shape)
        or modality.dtype.kind not in "iu"
        or modality.min(initial=0) < 0
    ):
        msg = (
            f"adata.uns[{JOINED_MARK!r}] must hold arrays `names` and `modality` with an entry for each column of "
            f"adata.obsm[{JOINED!r}], shape {shape}, got {mark!r}. Pass the original MuData, or run "
            f"`del adata.uns[{JOINED_MARK!r}]`."
        )
        raise ValueError(msg)
    return names.astype(str), modality.astype(np.intp)


def get_representations(patients: AnnData) -> list[str]:
    """Names of the representations of samples that patpy knows."""
    names = patients.uns.get(REPRESENTATIONS, [])
    is_list = isinstance(names, list | tuple) or (isinstance(names, np.ndarray) and names.ndim == 1)
    if not is_list or not all(isinstance(name, str) for name in names):
        msg = f"patients.uns[{REPRESENTATIONS!r}] must be a list of names, as patpy writes it, got {names!r}."
        raise ValueError(msg)
    return [str(name) for name in names]


def is_sketch(adata: AnnData) -> bool:
    """Whether the rows are points of :func:`gml.pp.sketch`, which leaves a mark in ``adata.uns``."""
    return SKETCH in adata.uns


def check_no_sketch(adata: AnnData, *, why: str) -> None:
    """Raise if the rows are points of a sketch instead of cells."""
    if is_sketch(adata):
        msg = f"adata is a sketch of gml.pp.sketch, and {why}; pass the cells."
        raise ValueError(msg)


def load(adata: AnnData) -> AnnData:
    """A copy in memory; Dask arrays in an AnnData in memory stay lazy."""
    return adata.copy() if isinstance(adata.obs, pd.DataFrame) and not adata.isbacked else adata.to_memory()


def get_point_weights(adata: AnnData) -> tuple[NDArray[np.float64], NDArray[np.intp]] | None:
    """Weight and number of cells of each point of a sketch, each shape (n,); `None` for cells."""
    if not is_sketch(adata):
        return None
    hint = f"adata.uns[{SKETCH!r}] says that the rows are points of gml.pp.sketch; delete it if they are cells."
    weights, counts = (_positive(get_column(adata, key, hint=hint), hint=hint) for key in (WEIGHT, N_CELLS))
    return weights, counts.astype(np.intp)


def _positive(column: pd.Series[Any], *, hint: str) -> NDArray[np.float64]:
    """A column of numbers above 0."""
    is_numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan) if is_numeric else np.zeros(len(column))
    if not (np.isfinite(values) & (values > 0)).all():
        msg = f"adata.obs[{column.name!r}] must hold finite numbers above 0. {hint}"
        raise ValueError(msg)
    return values


@contextmanager
def quiet_about_views() -> Iterator[None]:
    """No warning when a view becomes an AnnData of its own at the first write, as in scanpy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        warnings.filterwarnings("ignore", ".* names are not unique", UserWarning)
        yield


def write_metric(
    adata: AnnData, key_added: str, *, run: Mapping[str, Any], embedding: Any, loadings: NDArray[np.float64] | None
) -> None:
    """Store a metric with the embedding of cells; loadings of an earlier metric of this name do not outlive it."""
    keys = Keys(key_added)
    values = {("uns", keys.run): dict(run), ("obsm", keys.embedding): embedding, ("varm", keys.loadings): loadings}
    write_all(adata, values)


def write_all(adata: AnnData, values: Mapping[tuple[str, str], Any]) -> None:
    """Store values by slot and key, and delete where they are `None`; all of them, or none if one cannot be stored."""
    before: dict[tuple[str, str], Any] = {}
    with quiet_about_views():
        try:
            for place, value in values.items():
                slot, key = place
                before[place] = getattr(adata, slot).get(key, _NOTHING)
                _write(adata, place, _NOTHING if value is None else value)
        except BaseException:  # interrupts, too
            for place, value in before.items():
                _write(adata, place, value)
            raise


def _write(adata: AnnData, place: tuple[str, str], value: Any) -> None:
    slot, key = place
    held = getattr(adata, slot)
    if value is not _NOTHING:
        held[key] = value
    elif key in held:
        del held[key]


def check_key(keys: Collection[Hashable], key: str, *, slot: str, hint: str = "") -> None:
    """Raise if a slot lacks a key, and say which ones it has."""
    if not isinstance(key, str):
        msg = f"Keys of {slot} must be strings, got {key!r}."
        raise TypeError(msg)
    if key not in keys:
        available = ", ".join(repr(k) for k in keys) or "nothing"
        msg = f"{slot} has no {key!r}; it holds {available}. {hint}"
        raise KeyError(msg.strip())


def check_all_distances(patients: AnnData, key: str, *, hint: str = "") -> None:
    """Raise if only the distances of the nearest patients are stored."""
    slot = Keys(key).distances
    if is_sparse(patients.obsp.get(slot)):
        msg = (
            f"patients.obsp[{slot!r}] holds the distances of the nearest patients only, and all are needed: run "
            f"`gml.tl.patient_distances` without `neighbors_only`. {hint}"
        )
        raise ValueError(msg.strip())


def get_distances(patients: AnnData, key: str) -> NDArray[Any]:
    """All distances of patients among themselves, shape (p, p); NaN for patients without cells of the group."""
    check_all_distances(patients, key)
    slot = Keys(key).distances
    matrix = get_matrix(patients, "obsp", slot, hint=DISTANCES_FIRST)
    measured = measured_patients(matrix)
    if wrong := _violation(matrix[np.ix_(measured, measured)]):
        msg = (
            f"patients.obsp[{slot!r}] holds no distances of patients among themselves: {wrong}. It was changed since "
            "`gml.tl.patient_distances` wrote it; run that again."
        )
        raise ValueError(msg)
    return matrix


def measured_patients(matrix: NDArray[Any]) -> NDArray[np.bool_]:
    """Patients that have cells of the group that was measured, shape (p,); the rows of the others are NaN."""
    return np.asarray(~np.isnan(matrix).all(axis=1))


def _violation(distances: NDArray[Any]) -> str:
    """The property of distances that does not hold; empty if all do."""
    if not np.isfinite(distances).all():
        return "some are NaN or infinite"
    if (lowest := distances.min(initial=0)) < 0:
        return f"some are negative, down to {lowest:.3g}"
    if np.diagonal(distances).any():
        return "some patients are not at distance 0 from themselves"
    if np.abs(distances - distances.T).max(initial=0) > ROUNDING * distances.max(initial=0):
        return "they are not symmetric"
    return ""
