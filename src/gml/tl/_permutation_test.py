"""Test whether disease explains the distances between patients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from gml._anndata import Columns, check_anndata
from gml._base import check_choice, check_int, parallel
from gml._cohort import Work
from gml._evaluate import STATISTICS, inner_folds, judge, permute
from gml._measure import ResolvedMetric, check_splits_fit, measure, read_study
from gml._metric import Candidate, Displacements, check_solver, random_pairs, relearn, scaling
from gml._mudata import takes_mudata
from gml._ot import Clouds, Ground, distances_among
from gml.methods import Auto, Discriminant, Fixed, Triplet, resolve_method

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import UseRep
    from gml._cohort import Design, Points
    from gml.methods import AnyMethod, Method, MethodName
    from gml.solvers import Solver, SolverName

Statistic: TypeAlias = Literal["held_out", "permanova", "anosim", "mantel"]
N_SPLITS = 5  # of the held-out statistic


@dataclass(frozen=True, slots=True, eq=False)
class _Test:
    """What every permutation needs."""

    points: Points
    candidate: Candidate
    statistic: str
    displacements: Displacements | None
    fixed: NDArray[np.float64] | None
    """Distances that do not depend on the labels, (p, p)."""
    work: Work


@takes_mudata
def permutation_test(
    adata: AnnData,
    *,
    patient_key: str = "patient",
    disease_key: str = "disease",
    donor_key: str | None = None,
    batch_key: str | None = None,
    use_rep: UseRep = None,
    layer: str | None = None,
    method: MethodName | AnyMethod = "discriminant",
    statistic: Statistic = "held_out",
    n_permutations: int = 199,
    solver: SolverName | Solver = "exact",
    n_points: int | None = 64,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.Series[Any]:
    r"""Test whether disease explains the distances between patients more than chance does.

    Diseases are permuted across patients (those without one are left out), never across cells; the metric is learned
    anew from the permuted diseases each time, so that what learning makes of noise is in the null distribution as well.
    With :math:`b` of :math:`n` permutations at least as large as the statistic of the true diseases,

    .. math:: p = \frac{1 + b}{1 + n}.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`. Not modified.
    patient_key, disease_key, use_rep, layer, solver, n_points, rng
        As in :func:`gml.tl.learn_metric`.
    donor_key
        Column of ``adata.obs`` that names the donor of each patient (sample). Samples of a donor with several diseases
        exchange them within the donor; a donor with one disease exchanges it as a whole.
    batch_key
        Column of ``adata.obs`` with the batch of each patient: diseases are exchanged within batches only.
    method
        How the metric is learned, as in :func:`gml.tl.learn_metric`; ``"euclidean"`` or a
        :class:`gml.methods.Fixed` tests distances without learning, which is cheapest. Not ``"auto"``.
    statistic
        ``"held_out"``: how often a held-out patient is nearer to a patient of their own disease than to one of
        another, mean over 5 splits; the metric is learned without them. ``"permanova"`` (pseudo-F
        :cite:p:`Anderson2001`) and ``"anosim"`` (R :cite:p:`Clarke1993`): of the distances among all patients.
        ``"mantel"``: their correlation with the gaps in an ordered disease :cite:p:`Mantel1967`.
    n_permutations
        Permutations drawn, so the smallest p-value is 1 / (1 + n_permutations). Where few different ones exist, as for
        a handful of paired donors, the same are drawn again and again, and more draws make no smaller p-value.
    n_jobs
        Permutations at a time; `None` takes all cores. The result does not depend on it.

    Returns
    -------
    Series with `statistic` (name), `value`, `p_value`, `n_permutations`, `null_mean` and `null_sd`;
    ``.attrs["null"]`` is the list of permuted values.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError
        If no two patients can exchange their diseases, if the statistic does not fit the method or the disease, or as
        :func:`gml.tl.learn_metric`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30, n_diseases=2, noise=0.1)
    >>> result = gml.tl.permutation_test(adata, method="euclidean", statistic="permanova", n_permutations=49, rng=1)
    >>> float(result["p_value"])
    0.02
    """
    check_anndata(adata)
    check_int(n_permutations, name="n_permutations")
    check_choice(statistic, name="statistic", choices=["held_out", *STATISTICS])
    settings = resolve_method(method)
    columns = Columns(patient_key, disease_key, donor_key, batch_key, use_rep=use_rep, layer=layer)
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    check_solver(work.solver, [settings])
    is_ordered = isinstance(settings, Fixed) and statistic == "mantel"
    cohort = read_study(adata, columns, work, method=Discriminant(target="ordered") if is_ordered else settings)
    learned = _check_fit(settings, statistic, cohort.design)
    check_splits_fit(cohort)
    points = measure(cohort, ResolvedMetric(), work).points
    fixed = displacements = None
    if isinstance(learned, Fixed) and statistic != "held_out":
        clouds = Clouds.of(points, scaling(points, learned))  # which knows no labels
        fixed = distances_among(clouds, ground=Ground(metric=learned.ground), work=work)
    elif isinstance(learned, Discriminant):
        pairs = random_pairs(len(points), learned.max_pairs, np.random.default_rng(work.seed))
        displacements = Displacements.solve(points, work=work, pairs=pairs)
    test = _Test(points, Candidate("", learned), statistic, displacements, fixed, work.sequential())

    generator = np.random.default_rng(work.seed)
    designs = [cohort.design, *(permute(cohort.design, generator) for _ in range(n_permutations))]
    if not any(_differs(design, cohort.design, statistic) for design in designs):
        msg = (
            "No two patients can exchange their diseases within the donors or batches given; there is nothing to test."
        )
        raise ValueError(msg)
    values = list(parallel(partial(_value, test=test), designs, n_jobs=work.n_jobs, description="permuting"))
    value, null = values[0], np.array(values[1:])
    result: pd.Series[Any] = pd.Series(
        {
            "statistic": statistic,
            "value": value,
            "p_value": (1 + int(((null > value) | np.isclose(null, value, 1e-12, 0.0)).sum())) / (1 + n_permutations),
            "n_permutations": n_permutations,
            "null_mean": float(null.mean()),
            "null_sd": float(null.std()) if np.isfinite(null).all() else float("nan"),
        },
        dtype=object,
    )
    result.attrs["null"] = null.tolist()
    return result


def _differs(one: Design, other: Design, statistic: str) -> bool:
    """Whether two assignments of diseases are different ones."""
    first, second = one.labels, other.labels
    if statistic == "mantel":
        first, second = np.asarray(one.values), np.asarray(other.values)
    return not np.array_equal(first, second)


def _check_fit(method: AnyMethod, statistic: str, design: Design) -> Method:
    """The method, if the statistic can be computed with it."""
    if isinstance(method, Auto):
        msg = "`method` must not be 'auto', which would choose anew in every permutation; name one method."
        raise ValueError(msg)
    is_ordered = isinstance(method, Discriminant | Triplet) and method.target == "ordered"
    if statistic == "mantel" and design.values is None:  # noqa: PD011 (not of pandas)
        msg = "statistic='mantel' needs a disease column of numbers or of ordered categories."
        raise ValueError(msg)
    if is_ordered and statistic != "mantel":
        msg = f"A method with target='ordered' is tested with statistic='mantel', got {statistic!r}."
        raise ValueError(msg)
    if statistic == "held_out" and isinstance(method, Fixed) and method.name != "euclidean":
        msg = f"statistic='held_out' needs a metric that is a map of features, got {method!r}; take 'permanova'."
        raise ValueError(msg)
    return method


def _value(design: Design, *, test: _Test) -> float:
    """The statistic under one assignment of diseases."""
    points, candidate = test.points, test.candidate
    if test.statistic == "held_out":
        folds = inner_folds(design, N_SPLITS, np.random.default_rng(test.work.seed))
        if not folds:
            msg = "There are too few patients for statistic='held_out': a training side cannot teach; take 'permanova'."
            raise ValueError(msg)
        scores = judge(
            points,
            design,
            candidates=[candidate],
            folds=folds,
            work=test.work,
            displacements=test.displacements,
        )
        return float(scores.mean())
    distances, power = test.fixed, 1
    if distances is None:
        components = relearn(
            np.arange(len(points)),
            points=points,
            design=design,
            candidate=candidate,
            displacements=test.displacements,
            work=test.work,
        )
        power = candidate.method.power
        clouds = Clouds.of(points, components)
        distances = distances_among(clouds, ground=Ground(power=power), work=test.work)
    return STATISTICS[test.statistic](distances ** (1 / power), design)
