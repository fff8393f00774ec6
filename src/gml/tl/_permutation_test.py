"""Test whether disease explains the distances between patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import DISEASE, PATIENT, Columns, check_anndata
from gml._base import check_choice, check_int, parallel
from gml._cohort import Work
from gml._evaluate import STATISTICS, LabelTest, PermutationTest, check_testable, permuted_designs
from gml._measure import ResolvedMetric, arguments_of, check_splits_fit, measure, read_study
from gml._metric import check_solver
from gml._mudata import takes_mudata
from gml.methods import Discriminant, Fixed, resolve_method

if TYPE_CHECKING:
    from anndata import AnnData

    from gml._anndata import UseRep
    from gml._evaluate import Statistic
    from gml.methods import AnyMethod, MethodName
    from gml.solvers import Solver, SolverName


@takes_mudata
def permutation_test(
    adata: AnnData,
    *,
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
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
) -> PermutationTest:
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
        another, mean over 5 splits; the metric is learned without them. Patients have at most 32 points there, as more
        take several times as long. ``"permanova"`` (pseudo-F :cite:p:`Anderson2001`) and ``"anosim"`` (R
        :cite:p:`Clarke1993`): of the distances among all patients.
        ``"mantel"``: their correlation with the gaps in an ordered disease :cite:p:`Mantel1967`.
    n_permutations
        Permutations drawn, so the smallest p-value is 1 / (1 + n_permutations). Where few different ones exist, as for
        a handful of paired donors, the same are drawn again and again, and more draws make no smaller p-value.
    n_jobs
        Permutations at a time; `None` takes all cores. The result does not depend on it.

    Returns
    -------
    A :class:`gml.PermutationTest` with `statistic` (name), `value`, `p_value`, `n_permutations`, the permuted values
    `null`, shape (n_permutations,), their `null_mean` and `null_sd`, and `params` that repeat the call.

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
    >>> result.p_value
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
    learned = check_testable(settings, statistic, cohort.design)
    check_splits_fit(cohort)
    test = LabelTest.prepare(measure(cohort, ResolvedMetric(), work).points, learned, statistic, work=work)
    designs = permuted_designs(cohort.design, statistic, n_permutations, seed=work.seed)
    values = list(parallel(test.value, designs, n_jobs=work.n_jobs, description="permuting"))
    params = {"method": method, "statistic": statistic, "n_permutations": n_permutations, "n_points": work.n_points}
    params = arguments_of(columns, cohort.features, work) | params
    return PermutationTest(statistic=statistic, value=values[0], null=np.array(values[1:]), params=params)
