"""What an OT distance is made of: cell types, genes, components."""

from __future__ import annotations

from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gml._anndata import CELL_TYPE, PATIENT, check_anndata, get_column
from gml._base import check_choice
from gml._cohort import Work
from gml._genes import GeneWay
from gml._measure import TypeShares, compare_two, read_types, resolve_metric, warn_of_ties
from gml._mudata import takes_mudata
from gml._ot import parts_of
from gml.solvers import resolve_exact

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._measure import Metric, ResolvedMetric
    from gml._ot import By, Parts
    from gml.solvers import Exact, ExactName


@takes_mudata
def explain_distance(
    adata: AnnData,
    p: str | float,
    q: str | float,
    *,
    by: By = "cell_type",
    groupby: str | None = None,
    cell_type_key: str = CELL_TYPE,
    cell_type: str | float | None = None,
    excess: bool = False,
    metric: Metric = "gml",
    patient_key: str = PATIENT,
    solver: ExactName | Exact = "exact",
    n_points: int | None = 64,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    r"""Split the distance of two patients, or of two groups, into cell types, genes or components.

    With the optimal plan :math:`\pi` and the steps :math:`\delta = L(x_i - y_j)`, the distance :cite:p:`Kuehn2025` is a
    sum over edges of the plan and over components,

    .. math::
        D = \sum_{ij} \pi_{ij} \lVert \delta \rVert^q = \sum_c \sum_{ij} w_{ij} \delta_c^2,
        \qquad w_{ij} = \pi_{ij} \lVert \delta \rVert^{q-2},

    and :math:`\delta_c = \sum_g L_{cg} (x_{ig} - y_{jg})` makes each component a sum over genes, whose parts

    .. math:: \sum_c L_{cg} \sum_{ij} w_{ij} \delta_c (x_{ig} - y_{jg})

    are negative for a gene that moves against the others. Edges that join two cell types are a change of composition,
    those within a type a change of expression; which of the two is the cheaper account of a difference is the choice of
    the plan. In a learned space of few components cell types lie on top of each other, and a plan joins cells of any
    type at the same cost: then the two cannot be told apart, and a warning says so. A point of a sketch that holds
    cells of several types moves no more of them to another type than its shares force; ``n_points=None`` leaves no such
    points.

    The parts describe these patients and are no test. A metric that was learned from their diseases makes the distances
    between diseases large, and cells are a sample, so that a distance is above 0 where nothing differs: `excess` takes
    off what patients of one group differ by.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, in memory or on disk, or a sketch of :func:`gml.pp.sketch`,
        which knows no cell types. Not modified. Only cells of the patients in question are read.
    p, q
        Names of two patients; with `groupby`, of two groups. With the same group twice, the pairs within it.
    by
        ``"cell_type"``, ``"gene"`` or ``"component"``. Components need a metric that is learned or Euclidean, genes one
        whose features are genes or PCs of genes.
    groupby
        Column of ``adata.obs`` that is constant within patients, such as the disease. The distance is then the mean
        over pairs of a patient of p and another one of q.
    cell_type_key
        Column of ``adata.obs`` with the cell types. Not used by gene or component
        if it is absent, or if cells have none and it is not named here.
    cell_type
        Take only the mass that stays within this cell type. The whole is then its part of the distance.
    excess
        Of the mean between the groups, take off half the mean within p and half the mean within q, over pairs of
        different patients. The whole and its parts can then be negative.
    metric
        As in :func:`gml.tl.patient_distances`, with the metric's own power.
    patient_key
        Column of ``adata.obs`` that names the patient of each cell.
    solver
        ``"exact"``, or :class:`gml.solvers.Exact` with settings.
    n_points
        Each patient is represented by at most this many weighted k-means points; `None` takes every cell.
    rng
        Seed, or a generator from which one is drawn.
    n_jobs
        Threads (or workers of the joblib backend in use); `None` takes all cores. The result does not depend on it.

    Returns
    -------
    DataFrame, sorted by falling `part` unless by component. The parts add up to the distance that
    :func:`gml.tl.patient_distances` gives for the same arguments.

    ``by="cell_type"``
        One row per pair of cell types of these patients: `source` (of p), `target` (of q), `mass` that moves between
        them (of 1; with `excess` less half of that within the groups) and `part`.
    ``by="gene"``
        Indexed by gene, every gene of `adata`: `part`, `expression` (within cell types) and `composition` (between
        them) if cell types are known, and `component_1`, …, `component_k`, which add up to `part`; without these if the
        metric is Euclidean on genes.
    ``by="component"``
        Indexed by `component_1`, …, `component_k`: `part`, and `expression` and `composition` as before.
    `.attrs`
        `distance`, the whole; `p`, `q`, `by`, `excess`. If cell types are known, `expression` and `composition`, the
        sums within and between them, and (without `cell_type`) `mass_between`, the mass that moves between cell types,
        beside `mass_forced`, what of it must because patients have the types in other proportions. If much more
        moves than must, cells of a type have nearer counterparts in other types, and `composition` is no change of
        proportions.

    Raises
    ------
    KeyError
        If the metric or a column is missing.
    ValueError
        If a name is unknown, both patients are the same, a group has too few patients or is not constant within
        patients, a cell has no cell type, or the metric cannot be split as asked.

    Warns
    -----
    UserWarning
        If plans that cost hardly more keep far more of the distance within cell types.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=60, n_genes=100)
    >>> groups = {"p": "disease_1", "q": "disease_2", "groupby": "disease", "excess": True}
    >>> types = gml.tl.explain_distance(adata, **groups, metric=None)
    >>> types.loc[0, ["source", "target"]].tolist()
    ['type_1', 'type_1']
    >>> genes = gml.tl.explain_distance(adata, **groups, metric=None, by="gene")
    >>> bool(abs(genes["part"].sum() - genes.attrs["distance"]) < 1e-9)
    True
    """
    check_anndata(adata)
    check_choice(by, name="by", choices=["cell_type", "gene", "component"])
    names = str(p), str(q)
    _check_excess(names, groupby, excess=excess)
    exact = resolve_exact(solver)
    work = Work.checked(solver=exact, n_points=n_points, rng=rng, n_jobs=n_jobs)
    resolved = resolve_metric(metric, holders=(adata,))
    _check_squares(resolved, by)
    way = GeneWay.find(adata, resolved) if by == "gene" else None
    asked = by == "cell_type" or cell_type is not None or cell_type_key != CELL_TYPE
    asked = asked or (CELL_TYPE in adata.obs and bool(get_column(adata, CELL_TYPE).notna().all()))
    one_type = None if cell_type is None else str(cell_type)
    codes = read_types(adata, cell_type_key, one_type) if asked else None
    compared = compare_two(adata, resolved, names, patient_key=patient_key, work=work, groupby=groupby, excess=excess)
    types = None
    if codes is not None:
        warn_of_ties(compared, codes, solver=exact)
        types = TypeShares.of(compared.measured.points, *codes).only(one_type)
    add_up = partial(
        parts_of,
        by="component" if way is not None and way.loadings is None else by,
        z=compared.measured.clouds.z,
        power=resolved.power,
        shares=None if types is None else types.shares,
        only_within=one_type is not None,
    )
    parts = reduce(add, (add_up(*block) for block in compared.solve(solver=exact, n_jobs=work.n_jobs)))
    if way is not None:
        of_genes = way.parts(adata, compared.measured, parts)
        table = _of_genes(of_genes, adata.var_names, known=asked, split=way.loadings is not None)
    elif types is not None and by == "cell_type":
        table = _of_types(parts, types.names)
    else:
        table = _of_components(parts, known=asked)
    table.attrs = {"distance": parts.whole, "p": names[0], "q": names[1], "by": by, "excess": bool(excess)}
    if asked:
        table.attrs |= {"expression": parts.within, "composition": parts.whole - parts.within}
    if types is not None and one_type is None:
        table.attrs |= {"mass_between": parts.between, "mass_forced": types.forced(compared)}
    return table


def _check_excess(names: tuple[str, str], groupby: str | None, *, excess: bool) -> None:
    """Whether there are two groups to compare."""
    check_choice(excess, name="excess", choices=[False, True])
    if excess and groupby is None:
        msg = "excess=True takes off what patients of one group differ by; name the column of groups as `groupby`."
        raise ValueError(msg)
    if excess and names[0] == names[1]:
        msg = f"excess=True compares two groups, but `p` and `q` are both {names[0]!r}; name another one."
        raise ValueError(msg)


def _check_squares(metric: ResolvedMetric, by: By) -> None:
    """Whether squares of the ground cost are sums over components."""
    if by != "cell_type" and metric.ground().metric != "euclidean":
        msg = (
            f"by={by!r} needs a learned or the Euclidean metric, got {metric.name!r}, whose squares are no sums over "
            "features; pass by='cell_type'."
        )
        raise ValueError(msg)


def _of_types(parts: Parts, names: NDArray[np.str_]) -> pd.DataFrame:
    """One row per pair of cell types."""
    n = len(names)
    mass, part = parts.types.reshape(2, -1)
    source, target = names.astype(object).repeat(n), np.tile(names.astype(object), n)
    table = pd.DataFrame({"source": source, "target": target, "mass": mass, "part": part})
    return table.sort_values("part", ascending=False, kind="stable", ignore_index=True)


def _of_components(parts: Parts, *, known: bool) -> pd.DataFrame:
    """One row per component."""
    part, within = parts.components
    index = [f"component_{c}" for c in range(1, len(part) + 1)]
    return pd.DataFrame({"part": part} | _split(part, within, known=known), index=index)


def _of_genes(of_genes: NDArray[np.float64], names: pd.Index[str], *, known: bool, split: bool) -> pd.DataFrame:
    """One row per gene, `split` into a column per component."""
    part, within = of_genes.sum(axis=2)
    columns = {"part": part} | _split(part, within, known=known)
    if split:
        columns |= {f"component_{c}": column for c, column in enumerate(of_genes[0].T, start=1)}
    table = pd.DataFrame(columns, index=names.rename(None)).sort_index(kind="stable")
    return table.sort_values("part", ascending=False, kind="stable")


def _split(part: NDArray[np.float64], within: NDArray[np.float64], *, known: bool) -> dict[str, NDArray[np.float64]]:
    """What moves within cell types and between them, if these are `known`."""
    return {"expression": within, "composition": part - within} if known else {}
