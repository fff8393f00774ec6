"""Gene sets that are enriched at either end of a ranking of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from gml._base import check_int, warn
from gml._genes import SOURCE, TARGET, WEIGHT, read_sets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from numpy.typing import NDArray

SETS_AT_ONCE = 500  # decoupler makes a dense matrix of genes × sets
LEADING = 10  # genes that are named
FEW = 0.1  # of the genes that could match


def enrich(
    table: pd.DataFrame,
    gene_sets: str | PathLike[str] | Mapping[str, Iterable[str]] | pd.DataFrame,
    *,
    score: str = "importance",
    min_genes: int = 5,
) -> pd.DataFrame:
    r"""Gene sets whose genes lie at one end of a ranking; the sets are passed, nothing is fetched.

    Genes are ranked by a column of `table`, and their ranks turned into normal scores (the value that a normal
    distribution has at this rank; ties share their mean rank), so that no single gene dominates a set. The score of a
    set is the t value of the slope when these are regressed on membership in the set, over all genes of the table: the
    univariate linear model of decoupler :cite:p:`BadiaiMompel2022`. It must be installed:
    ``pip install "scgml[enrichment]"``.

    The p-values ask whether a random set of as many genes would do as well. They take genes as independent; genes of a
    pathway vary together, so p-values of real sets are too small :cite:p:`Wu2012`. They say nothing about other
    patients. Genes that the metric could not use, such as those that are not highly variable, have importance 0 in the
    table of :func:`gml.tl.rank_genes`: leave them out, so that sets are compared with what could have been found.

    Parameters
    ----------
    table
        Indexed by gene, with a column of scores: the result of :func:`gml.tl.rank_genes`, or of another tool. Not
        modified.
    gene_sets
        Path of a GMT file, a dictionary of names of sets to names of genes, or a DataFrame with the columns `source`
        (the set), `target` (the gene) and optionally `weight` (the sign or strength of the gene in the set), as
        decoupler has them. Genes are matched by name, upper and lower case being different.
    score
        Column of `table` to rank by, such as ``"importance"``, ``"loading_1"``, or ``"direction_…"``, by which sets
        that go up and down in a disease come out with different signs.
    min_genes
        Sets with fewer genes in the table are left out, and those with all genes.

    Returns
    -------
    One row per gene set, sorted by falling score:

    `score`
        t value; positive if the genes of the set have high scores, negative if low.
    `p_value`, `p_adjusted`
        Two-sided, and adjusted for the number of sets (false discovery rate, Benjamini and Hochberg).
    `n_genes`
        Genes of the set that are in the table.
    `leading`
        Names of up to ten of them that contribute most to the score, parted by commas.

    Raises
    ------
    KeyError
        If `table` has no such column, or a DataFrame of gene sets not those it needs.
    ValueError, TypeError
        If scores are not finite numbers that differ, genes or sets are named twice, a GMT file cannot be read, or no
        set has enough genes in the table.

    Warns
    -----
    UserWarning
        If few genes match, which mostly means that they are named in another way; or if most genes have one and the
        same score, by which small p-values are too small.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=60, n_features=20)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> table = gml.tl.rank_genes(adata)
    >>> sets = {"with signal": ["signal", "noise_1"], "without": ["noise_2", "noise_3"]}
    >>> gml.tl.enrich(table, sets, min_genes=2).index[0]
    'with signal'
    """
    check_int(min_genes, name="min_genes", low=2)
    z = _normal_scores(table, score)
    net = read_sets(gene_sets)
    matched = net[net[TARGET].isin(z.index)]
    _check_matches(net, matched, z.index)
    by_set = matched.groupby(SOURCE, sort=False)[WEIGHT]
    n_genes, differs = by_set.size(), by_set.max() > by_set.min()
    # a set of all genes with one weight has nothing to compare with
    tested = n_genes.index[(n_genes >= min_genes) & ((n_genes < len(z)) | differs)]
    if len(tested) == 0:
        msg = (
            f"None of {net[SOURCE].nunique()} gene sets has at least {min_genes} genes in the table and some not; the "
            f"largest has {n_genes.max()} of {len(z)}. Lower `min_genes`, or pass other sets."
        )
        raise ValueError(msg)
    matched = matched[matched[SOURCE].isin(tested)]
    result = _fit(z, matched, tested)
    result = result.assign(
        p_adjusted=stats.false_discovery_control(result["p_value"]),
        n_genes=n_genes[tested],
        leading=_leading(z, matched, result["score"]),
    ).rename_axis("gene_set")
    return result.sort_index().sort_values("score", ascending=False, kind="stable")


def _normal_scores(table: pd.DataFrame, score: str) -> pd.Series[float]:
    """Normal scores of the genes of the table, with mean about 0."""
    if not isinstance(table, pd.DataFrame):
        msg = f"`table` must be a DataFrame indexed by gene, as gml.tl.rank_genes returns, got {type(table).__name__}."
        raise TypeError(msg)
    numbers = table.select_dtypes("number").columns
    if score not in list(numbers):
        msg = f"`table` has no column of numbers {score!r}; it has {', '.join(map(repr, numbers)) or 'none'}."
        raise KeyError(msg)
    genes = table.index.astype(str)
    if not genes.is_unique:
        msg = f"The genes of `table` must be named once, got {str(genes[genes.duplicated()][0])!r} again."
        raise ValueError(msg)
    values = table[score].to_numpy(dtype=np.float64)
    if n_bad := int((~np.isfinite(values)).sum()):
        msg = f"{n_bad} of {len(values)} values of table[{score!r}] are NaN or infinite; drop these genes."
        raise ValueError(msg)
    _, counts = np.unique(values, return_counts=True)
    if len(counts) < 2 or len(values) < 4:
        msg = f"table[{score!r}] must rank at least 4 genes, got {len(values)} with {len(counts)} different values."
        raise ValueError(msg)
    if counts.max() > len(values) / 2:
        warn(
            f"{counts.max()} of {len(values)} genes have the same value of {score!r}, so small p-values are too small. "
            "If the metric could not use these genes, leave them out of the table."
        )
    return pd.Series(stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values)), index=genes)


def _check_matches(net: pd.DataFrame, matched: pd.DataFrame, genes: pd.Index[Any]) -> None:
    """Warn if few genes of the sets are in the table; raise if none is."""
    targets, n_matched = pd.unique(net[TARGET]), matched[TARGET].nunique()
    if n_matched and n_matched >= FEW * min(len(targets), len(genes)):
        return
    in_table, in_sets = (", ".join(map(repr, names[:3])) for names in (genes.tolist(), targets.tolist()))
    msg = (
        f"{n_matched} of {len(targets)} genes in the sets are among the {len(genes)} of the table, which are named "
        f"like {in_table}, those of the sets like {in_sets}."
    )
    if (n_alike := len(set(genes.str.upper()) & {name.upper() for name in targets})) > n_matched:
        msg += f" But for upper and lower case {n_alike} would match."
    if n_matched == 0:
        raise ValueError(msg)
    warn(msg)


def _fit(z: pd.Series[float], net: pd.DataFrame, names: pd.Index[Any]) -> pd.DataFrame:
    """The t values and p-values of the sets, in their order."""
    try:
        import decoupler
    except ImportError as error:
        msg = 'gml.tl.enrich needs decoupler: pip install "scgml[enrichment]"'
        raise ImportError(msg) from error
    parts = []
    for first in range(0, len(names), SETS_AT_ONCE):
        sets, _, weights = decoupler.pp.adjmat(
            z.index.to_numpy(), net[net[SOURCE].isin(names[first : first + SETS_AT_ONCE])]
        )
        # the model itself: what is around it adjusts p-values of these sets alone, in single precision
        t_values, p_values = decoupler.mt.ulm.func(z.to_numpy()[None], weights)
        parts.append(pd.DataFrame({"score": t_values[0], "p_value": p_values[0]}, index=sets))
    return pd.concat(parts).loc[names]


def _leading(z: pd.Series[float], net: pd.DataFrame, scores: pd.Series[float]) -> pd.Series[str]:
    """Genes that contribute most to the score of each set, on its side."""
    signs: NDArray[np.float64] = np.sign(scores[net[SOURCE]].to_numpy())
    parts = net.assign(part=signs * net[WEIGHT].to_numpy() * z[net[TARGET]].to_numpy())
    parts = parts[parts["part"] > 0].sort_values([SOURCE, "part", TARGET], ascending=[True, False, True])
    names = parts.groupby(SOURCE)[TARGET].agg(lambda genes: ", ".join(genes.iloc[:LEADING]))
    return names.reindex(scores.index, fill_value="")
