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

    from gml._measure import Compared, Metric, ResolvedMetric
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

    are negative for a gene that moves against the others. Edges between two cell types are a change of composition,
    those within a type a change of expression; the plan takes the cheaper of both. Where cell types overlap, as in a
    learned space of few components, the two cannot be told apart, and a warning says so. A point of a sketch that holds
    cells of several types moves no more of them to another type than its shares force.

    The parts describe these patients and are no test. A metric that was learned from their diseases makes the distances
    between diseases large, and distances between samples of cells are above 0 without any difference: `excess`
    subtracts the distances within groups.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, in memory or on disk, or a sketch of :func:`gml.pp.sketch`,
        which has no cell types. Not modified. Only cells of these patients are read.
    p, q
        Names of two patients; with `groupby`, of two groups. With the same group twice, the pairs within it.
    by
        ``"cell_type"``, ``"gene"`` or ``"component"``. Components need a metric that is learned or Euclidean, genes one
        whose features are genes or PCs of genes.
    groupby
        Column of ``adata.obs`` that is constant within patients, such as the disease. The distance is then the mean
        over pairs of a patient of p and another one of q.
    cell_type_key
        Column of ``adata.obs`` with the cell types. By gene or component it is optional: the default column is ignored
        if it is absent or incomplete.
    cell_type
        Take only the mass that stays within this cell type. The whole is then its part of the distance.
    excess
        Subtract from the mean between the groups half the mean within p and half the mean within q, over pairs of
        different patients. The whole and its parts can then be negative.
    metric, patient_key, n_points, rng, n_jobs
        As in :func:`gml.tl.patient_distances`, with the metric's own power.
    solver
        ``"exact"``, or :class:`gml.solvers.Exact` with settings.

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
        and `mass_forced`, the part of it that differences of proportions force. If `mass_between` is much larger,
        `composition` is no change of proportions.

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
    work = Work.checked(solver=resolve_exact(solver), n_points=n_points, rng=rng, n_jobs=n_jobs)
    resolved = resolve_metric(metric, holders=(adata,))
    _check_squares(resolved, by)
    way = GeneWay.find(adata, resolved) if by == "gene" else None
    single = None if cell_type is None else str(cell_type)
    codes = _read_codes(adata, cell_type_key, single, by=by)
    compared = compare_two(adata, resolved, names, patient_key=patient_key, work=work, groupby=groupby, excess=excess)
    types = None
    if codes is not None:
        warn_of_ties(compared, codes, solver=resolve_exact(solver))
        types = TypeShares.of(compared.measured.points, *codes).only(single)
    summed_by: By = "component" if way is not None and way.loadings is None else by
    parts = _sum_parts(compared, work, types, by=summed_by, only_within=single is not None)
    table = _tabulate(adata, compared, parts, types=types, by=by, way=way)
    table.attrs = {"distance": parts.whole, "p": names[0], "q": names[1], "by": by, "excess": bool(excess)}
    if types is not None:
        table.attrs.update(_totals(parts, types, compared, has_between=single is None))
    return table


def _totals(parts: Parts, types: TypeShares, compared: Compared, *, has_between: bool) -> dict[str, float]:
    """Sums over cell types, and unless a single one is taken the mass that moves between them."""
    totals = {"expression": parts.within, "composition": parts.whole - parts.within}
    return totals | ({"mass_between": parts.between, "mass_forced": types.forced(compared)} if has_between else {})


def _read_codes(
    adata: AnnData, key: str, single: str | None, *, by: By
) -> tuple[NDArray[np.intp], NDArray[np.str_]] | None:
    """Types of cells and their names; `None` for an incomplete default column that nothing needs."""
    is_needed = by == "cell_type" or single is not None or key != CELL_TYPE
    if is_needed or (CELL_TYPE in adata.obs and get_column(adata, CELL_TYPE).notna().all()):
        return read_types(adata, key, single)
    return None


def _sum_parts(compared: Compared, work: Work, types: TypeShares | None, *, by: By, only_within: bool) -> Parts:
    """Parts of all pairs, a block of pairs at a time."""
    measured, shares = compared.measured, None if types is None else types.shares
    add_up = partial(
        parts_of, by=by, z=measured.clouds.z, power=measured.metric.power, shares=shares, only_within=only_within
    )
    blocks = compared.solve(solver=resolve_exact(work.solver), n_jobs=work.n_jobs)
    return reduce(add, (add_up(*block) for block in blocks))


def _check_excess(names: tuple[str, str], groupby: str | None, *, excess: bool) -> None:
    """Raise unless there are two groups to compare."""
    check_choice(excess, name="excess", choices=[False, True])
    if excess and groupby is None:
        msg = "excess=True subtracts the distances within groups; name the column of groups as `groupby`."
        raise ValueError(msg)
    if excess and names[0] == names[1]:
        msg = f"excess=True compares two groups, but `p` and `q` are both {names[0]!r}; name another one."
        raise ValueError(msg)


def _check_squares(metric: ResolvedMetric, by: By) -> None:
    """Raise unless squares of the ground cost are sums over components."""
    if by != "cell_type" and metric.ground().metric != "euclidean":
        msg = (
            f"by={by!r} needs a learned or the Euclidean metric, got {metric.name!r}, whose squares are no sums over "
            "features; pass by='cell_type'."
        )
        raise ValueError(msg)


def _tabulate(
    adata: AnnData, compared: Compared, parts: Parts, *, types: TypeShares | None, by: By, way: GeneWay | None
) -> pd.DataFrame:
    """The parts, sorted unless by component."""
    if way is not None:
        of_genes = way.parts(adata, compared.measured, parts)
        return _of_genes(of_genes, adata.var_names, has_types=types is not None, split=way.loadings is not None)
    if types is not None and by == "cell_type":
        return _of_types(parts, types.names)
    part, within = parts.components
    index = [f"component_{c}" for c in range(1, len(part) + 1)]
    return pd.DataFrame({"part": part} | _split(part, within, has_types=types is not None), index=index)


def _of_types(parts: Parts, names: NDArray[np.str_]) -> pd.DataFrame:
    """One row per pair of cell types."""
    n = len(names)
    mass, part = parts.types.reshape(2, -1)
    source, target = names.astype(object).repeat(n), np.tile(names.astype(object), n)
    table = pd.DataFrame({"source": source, "target": target, "mass": mass, "part": part})
    return table.sort_values("part", ascending=False, kind="stable", ignore_index=True)


def _of_genes(of_genes: NDArray[np.float64], names: pd.Index[str], *, has_types: bool, split: bool) -> pd.DataFrame:
    """One row per gene, `split` into a column per component."""
    part, within = of_genes.sum(axis=2)
    columns = {"part": part} | _split(part, within, has_types=has_types)
    if split:
        columns |= {f"component_{c}": column for c, column in enumerate(of_genes[0].T, start=1)}
    table = pd.DataFrame(columns, index=names.rename(None)).sort_index(kind="stable")
    return table.sort_values("part", ascending=False, kind="stable")


def _split(
    part: NDArray[np.float64], within: NDArray[np.float64], *, has_types: bool
) -> dict[str, NDArray[np.float64]]:
    """Parts within cell types and between them, if there are types."""
    return {"expression": within, "composition": part - within} if has_types else {}
