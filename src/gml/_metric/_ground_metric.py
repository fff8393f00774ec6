"""A learned metric as an object: what it maps, from what it was learned, and how it is kept on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gml._anndata import LEARN_FIRST, MODALITIES, check_holder, get_run, read_elements, write_elements

from ._stored import CHOICE, GENE, SCALE, format_of, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import GeneMap
    from gml.methods import Power

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class GroundMetric:
    r"""A ground metric on gene space, :math:`d_L(x, x') = \lVert L (x - x') \rVert_2` :cite:p:`Kuehn2025`.

    Made by :func:`gml.tl.learn_metric` and read with :func:`gml.get.metric`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> metric = gml.get.metric(adata)
    >>> metric.components.shape
    (2, 2)
    >>> metric.transform(adata.X).shape
    (180, 2)
    """

    components: NDArray[np.float64]
    """The map :math:`L`, shape (k, d): rows of falling length, zeros last, the largest loading of each (on genes, if
    there is a map from them) positive. They are orthogonal, unless an l1 penalty made them or varimax turned them
    (:func:`gml.tl.rotate`)."""
    feature_names: NDArray[np.str_]
    """Names of the features that :math:`L` takes, shape (d,)."""
    classes: NDArray[np.str_]
    """Diseases that it was learned from, sorted."""
    params: dict[str, Any] = field(default_factory=dict)
    """Everything needed to repeat the call that learned it."""
    loss: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Loss of each pass that was made."""
    spectrum: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Eigenvalues of the closed form, falling; empty for other methods."""
    patients: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))
    """Names of the patients that it was learned from."""
    choice: pd.DataFrame | None = None
    """With ``method="auto"``: what was compared, its mean score on held-out patients and the standard error."""
    modalities: pd.DataFrame | None = None
    """Of a metric on a MuData: `modality`, the `use_rep` and `layer` taken of it, the `scale` that its features were
    divided by, and its `share` in the squared distances between cells under the metric."""
    gene_map: GeneMap | None = field(default=None, repr=False)
    """How the features are computed from genes; `None` if there is no such way."""

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        k, d = self.components.shape if self.components.ndim == 2 else (0, 0)
        is_finite = bool(np.isfinite(self.components).all())
        if k == 0 or d == 0 or not is_finite:
            found = f"shape {self.components.shape}" if is_finite else "NaN or infinite values"
            msg = f"`components` must be a finite array of shape (k, d), got {found}."
            raise ValueError(msg)
        if len(self.feature_names) != d:
            msg = f"`feature_names` must name the {d} columns of `components`, got {len(self.feature_names)} names."
            raise ValueError(msg)
        if self.gene_map is not None and self.gene_map.n_features != d:
            msg = f"`gene_map` must lead to the {d} features of `components`, got {self.gene_map.n_features}."
            raise ValueError(msg)

    def __repr__(self) -> str:
        k, d = self.components.shape
        method, rep = self.params.get("method"), self.params.get("use_rep")
        return f"GroundMetric({k} × {d} features of {rep!r}, method={method!r}, classes={self.classes.tolist()})"

    @property
    def power(self) -> Power:
        """Exponent q of the ground cost of distances under this metric."""
        return 2 if self.params.get("power", 1) == 2 else 1

    @property
    def loadings(self) -> NDArray[np.float64] | None:
        """The map from genes to components, shape (n_genes, k), for ``gene_map.names``; `None` without genes."""
        return None if self.gene_map is None else self.gene_map.loadings(self.components)

    def mahalanobis(self) -> NDArray[np.float64]:
        r"""The matrix :math:`M = L^\top L` of :math:`d_L(x, x')^2 = (x - x')^\top M (x - x')`, shape (d, d)."""
        return self.components.T @ self.components

    def transform(self, X: NDArray[Any]) -> NDArray[np.float64]:  # noqa: N803 (the name that scikit-learn uses)
        """Cells in the learned space, shapes (n, d) → (n, k); Euclidean distances there are the ground metric.

        Parameters
        ----------
        X
            Cells × features, in the order of `feature_names`, shape (n, d). Array or sparse matrix.

        Raises
        ------
        ValueError
            If the number of columns is not d.
        """
        k, d = self.components.shape
        if getattr(X, "ndim", None) != 2 or X.shape[1] != d:
            msg = f"`X` must have shape (n, {d}), one column per feature of the metric, got {np.shape(X)}."
            raise ValueError(msg)
        return np.asarray(X @ self.components.T, dtype=np.float64).reshape(-1, k)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the metric to one HDF5 file, as AnnData would (``.h5`` is added to the name if it is not there).

        Examples
        --------
        >>> import gml, tempfile, pathlib
        >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
        >>> gml.tl.learn_metric(adata, method="discriminant")
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "metric.h5"
        >>> gml.get.metric(adata).save(path)
        >>> gml.GroundMetric.load(path).components.shape
        (2, 2)
        """
        write_elements(path, self.to_dict())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a metric that :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is not a metric, one that was changed, or one of a newer format.
        """
        return cls.from_dict(read_elements(path, what="a metric that `GroundMetric.save` wrote"), name=str(path))

    def to_dict(self) -> dict[str, Any]:
        """Only arrays, scalars and str-keyed dicts, as ``adata.uns`` holds them."""
        names = ("components", "feature_names", "classes", "loss", "spectrum", "patients", "params")
        run: dict[str, Any] = {"format": FORMAT} | {name: getattr(self, name) for name in (*names, CHOICE, MODALITIES)}
        run = {name: value for name, value in run.items() if value is not None}
        if (genes := self.gene_map) is not None:
            run[GENE] = {"names": genes.names, "means": genes.means}
            optional = {"basis": genes.basis, "offset": genes.offset, "variances": genes.variances}
            run[GENE] |= {name: value for name, value in optional.items() if value is not None}
            if genes.scale is not None:
                run[SCALE] = asdict(genes.scale)
        return run

    @classmethod
    def from_dict(cls, run: Mapping[str, Any], *, name: str) -> Self:
        """The metric that :meth:`to_dict` wrote; `name` is where it was found, for messages."""
        needed = {"format", "components", "feature_names", "classes", "loss", "params"}
        if missing := needed - set(run):
            msg = f"{name} holds no learned metric: {', '.join(sorted(missing))} missing. Run `gml.tl.learn_metric`."
            raise ValueError(msg)
        try:
            if (number := format_of(run)) <= FORMAT:
                return cls(**parsed(run))
        except ValueError as error:
            msg = f"{name} holds a metric that was damaged or edited: {error} Run `gml.tl.learn_metric` again."
            raise ValueError(msg) from error
        msg = f"{name} has format {number}, this version of gml reads up to {FORMAT}; update scgml."
        raise ValueError(msg)


def read_metric(adata: AnnData, key: str) -> GroundMetric:
    """The metric of the name `key`; see :func:`gml.get.metric`."""
    return GroundMetric.from_dict(get_run(check_holder(adata), key, hint=LEARN_FIRST), name=f"adata.uns[{key!r}]")
