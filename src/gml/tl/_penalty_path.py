"""Which genes a metric keeps as its penalty grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from gml._anndata import GENES, check_anndata
from gml._base import check_choice, check_float, check_int, check_n_jobs, check_n_points, check_seed
from gml._cohort import sketch
from gml._measure import read_study
from gml._metric import DEFAULT_K, SPARSE, fit_path
from gml._mudata import takes_mudata
from gml.methods import Triplet
from gml.solvers import Exact

if TYPE_CHECKING:
    from anndata import AnnData

    from gml._anndata import UseRep


@takes_mudata
def penalty_path(
    adata: AnnData,
    *,
    penalty: Literal["group_lasso", "l1"] = "group_lasso",
    regs: Sequence[float] | None = None,
    method: Triplet | None = None,
    patient_key: str = "patient",
    disease_key: str = "disease",
    donor_key: str | None = None,
    batch_key: str | None = None,
    use_rep: UseRep = None,
    layer: str | None = None,
    n_components: int | None = None,
    n_points: int | None = 64,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    r"""Genes that the triplet learner keeps under a penalty that grows.

    The group lasso :cite:p:`Yuan2006` pulls whole columns of :math:`L` to exactly 0, so that the metric reads few
    genes. The path is one descent from weak to strong; a gene that has left hardly comes back. Distances and penalty
    grow in proportion to :math:`L`, so from some strength on no metric is worth its penalty, and all that are left
    leave at once.

    Genes that stay long carry the difference between the diseases of *these* patients with few others to help. Of genes
    that vary together, one may stand for all, and which one it is can be chance.

    The path does not say how well few genes do on new patients, and the smaller loss of a weaker penalty is no argument
    for it. For a `reg` to use, compare some of them on held-out patients, the strongest first, which is then kept
    unless another is better by a standard error: :func:`gml.tl.tune` with ``use_rep="X"`` and
    ``grid={"method": ["triplet"], "penalty": ["group_lasso"], "reg": [0.3, 0.1, 0.03]}``. A metric that
    :func:`gml.tl.learn_metric` learns with one `reg` starts elsewhere, and may keep other genes than the path.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`. Not modified.
    penalty
        ``"group_lasso"``, or ``"l1"`` for single zeros, by which a gene leaves later than its last component.
    regs
        Weights of the penalty, in the unit of :attr:`gml.methods.Triplet.reg`. `None` takes about ten, evenly on the
        log scale, over a factor of 30, up to the first that leaves no gene.
    method
        Other settings of the learner, as :class:`gml.methods.Triplet`, whose `penalty` and `reg` are replaced; without
        `early_stopping`. More passes (`max_iter`) follow the path more closely.
    patient_key, disease_key, donor_key, batch_key, layer, n_components, n_points, rng, n_jobs
        As in :func:`gml.tl.learn_metric`; 5 components, if `n_components` is `None`.
    use_rep
        ``"X"`` for genes, which is taken by `None` too if there is no ``X_pca``. On another representation the penalty
        selects its columns, principal components for instance and not genes, so it must be asked for by name.

    Returns
    -------
    One row per feature (gene), in the order of `adata`, and one column per `reg`, rising, so that genes become fewer:
    the length of the feature's column of :math:`L`, 0 if it is not used.

    ``.attrs["n_selected"]``
        Features with a length above 0, a list with one number per column.
    ``.attrs["loss"]``
        The objective, the penalty included, a list with one number per column; on the training patients.
    ``.attrs["penalty"]``
        As it was passed.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError, TypeError
        If a setting is out of range, if `use_rep` is `None` and ``X_pca`` would be taken, or as
        :func:`gml.tl.learn_metric`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=30, n_features=10)
    >>> path = gml.tl.penalty_path(adata, regs=[0.1, 1.0, 10.0], n_points=8)
    >>> path.shape, path.attrs["n_selected"][-1]
    ((10, 3), 0)
    >>> path[1.0].idxmax()
    'signal'
    """
    check_anndata(adata)
    settings = _settings(method, check_choice(penalty, name="penalty", choices=SPARSE))
    grid = None if regs is None else _check_regs(regs)
    check_n_jobs(n_jobs)
    check_n_points(n_points)
    seed = check_seed(rng)
    cohort = read_study(
        adata,
        patient_key=patient_key,
        disease_key=disease_key,
        donor_key=donor_key,
        batch_key=batch_key,
        use_rep=use_rep,
        layer=layer,
        method=settings,
    )
    names, rep = cohort.features.names, cohort.features.rep
    if rep != GENES and use_rep is None:
        msg = (
            f"The penalty would select columns of adata.obsm[{rep!r}], not genes. Pass use_rep='X' for genes, or "
            f"use_rep={rep!r} if you mean that."
        )
        raise ValueError(msg)
    k = min(DEFAULT_K, len(names)) if n_components is None else n_components
    path = fit_path(
        sketch(cohort, n_points, seed=seed, n_jobs=n_jobs),
        cohort.design,
        settings,
        regs=grid,
        n_components=check_int(k, name="n_components", high=len(names)),
        solver=Exact(),
        seed=seed,
        n_jobs=n_jobs,
    )
    lengths = np.column_stack([np.linalg.norm(fit.components, axis=0) for _, fit in path])
    table = pd.DataFrame(lengths, index=pd.Index(names), columns=pd.Index([reg for reg, _ in path], name="reg"))
    table.attrs["n_selected"] = [int(n) for n in (lengths > 0).sum(axis=0)]
    table.attrs["loss"] = [float(min(fit.loss.min(), settings.margin)) for _, fit in path]  # that of L = 0
    table.attrs["penalty"] = penalty
    return table


def _settings(method: Triplet | None, penalty: Literal["group_lasso", "l1"]) -> Triplet:
    method = Triplet() if method is None else method
    if not isinstance(method, Triplet):
        msg = f"`method` must be a gml.methods.Triplet or None, got {method!r}."
        raise TypeError(msg)
    if method.early_stopping:
        msg = "`method` must not have `early_stopping`: on a path every metric starts from one that saw all patients."
        raise ValueError(msg)
    return replace(method, penalty=penalty)


def _check_regs(regs: Sequence[float]) -> list[float]:
    """Weights of the penalty, sorted."""
    if isinstance(regs, str) or not isinstance(regs, Sequence | np.ndarray) or len(regs) == 0:
        msg = f"`regs` must be a list of numbers above 0, got {regs!r}."
        raise TypeError(msg)
    found = sorted(check_float(reg, name="regs", low_allowed=False) for reg in regs)
    if len(set(found)) < len(found):
        msg = f"`regs` must be different numbers, got {regs!r}."
        raise ValueError(msg)
    return found
