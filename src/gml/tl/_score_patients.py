"""Positions of patients between the typical patients of the diseases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gml._anndata import DISEASE, PATIENT, Columns, Keys, check_anndata, check_key_added, write_all
from gml._base import parallel
from gml._cohort import Work
from gml._measure import Steps, check_diseases, measure_both, resolve_metric, typical_patients
from gml._mudata import takes_mudata
from gml._ot import Clouds, join, transport
from gml.solvers import resolve_exact

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort
    from gml._measure import Measured
    from gml._ot import Barycenter
    from gml.solvers import Exact, ExactName

MISSING = -1
MOST_GROUPS = 50  # of donors that are left out together; with a group for each, time would grow as their square

# points of a typical patient without a group of donors, by patient and disease; `None` without other samples
LeftOut: TypeAlias = "dict[tuple[int, int], NDArray[np.float64] | None]"


@takes_mudata
def score_patients(
    adata: AnnData,
    patients: AnnData,
    *,
    metric: str = "gml",
    reference: AnnData | None = None,
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    solver: ExactName | Exact = "exact",
    n_points: int | None = 64,
    max_iter: int = 100,
    tol: float = 1e-4,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> None:
    r"""Position of each patient between the typical patients of the diseases.

    With the typical patient :math:`B_y` of each disease (:func:`gml.tl.barycenter`) and the transport distance
    :math:`W` under the learned metric, the score of patient p for disease y is

    .. math:: \frac{W(p, B_o) - W(p, B_y)}{W(B_y, B_o)} \in [-1, 1],

    where :math:`o` is the other disease whose typical patient is nearest to p. It is 1 at the typical patient of
    y, -1 at that of o, 0 at the same distance from both; the bounds are those of the triangle inequality.
    :math:`W` is the distance of :func:`gml.tl.patient_distances` (for power 2 its root).

    A patient of `adata` that has a disease is compared with the typical patient of the *others* of that disease; if the
    metric was learned with donors (`donor_key`), with typical patients without the samples of the same donor. If there
    are more than 50 patients (or donors), they are left out in 50 groups. Training patients of the metric still score
    high for their own disease, even with random labels. For unbiased scores learn the metric on other patients and pass
    their cells as `reference`; for a diagnosis see :func:`gml.tl.predict`.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>` of the patients, in memory or on disk, or a sketch of
        :func:`gml.pp.sketch`. Not modified.
    patients
        Some or all of its patients, as :func:`gml.tl.patient_distances` returns them. Only the columns below are
        written.
    metric
        The `key_added` of :func:`gml.tl.learn_metric`, whose columns, features and power are used.
    reference
        Other cells, with the metric that was learned on them, of which typical patients are made. Patients of `adata`
        then need no disease.
    patient_key, disease_key, solver, n_points, max_iter, tol, rng, n_jobs
        As in :func:`gml.tl.barycenter`.

    Returns
    -------
    `None`; it writes ``patients.obs[f"{key}_score_{disease}"]``, one column per disease (a ``/`` in its name as ``_``),
    shape (p,), float64. NaN where there is no such typical patient: for the only patient of a disease in the column
    of that disease (and in the other one, if there are two), and where two typical patients are the same.

    Leaving a patient out takes some 8 transport problems per patient of the disease: time grows with the square of
    their number.

    Raises
    ------
    KeyError
        If the metric, a column, layer or representation is missing.
    ValueError
        If patients are not in `adata`, fewer than two diseases have patients, or cells and patients are confused.

    Warns
    -----
    UserWarning
        If points of a typical patient still move after `max_iter` steps.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> patients = gml.tl.patient_distances(adata)
    >>> gml.tl.score_patients(adata, patients)
    >>> [name for name in patients.obs if "score" in name]
    ['gml_score_class_1', 'gml_score_class_2', 'gml_score_class_3']
    """
    _check_roles(adata, patients, key=check_key_added(metric, name="metric"))
    if reference is not None:
        check_anndata(reference, name="reference")
    exact = resolve_exact(solver)
    work = Work.checked(solver=exact, n_points=n_points, rng=rng, n_jobs=n_jobs)
    steps = Steps(exact, max_iter, tol, work.n_jobs)
    resolved = resolve_metric(metric, holders=(adata,) if reference is None else (reference, adata))
    columns = Columns(patient_key, disease_key)
    check_diseases(adata if reference is None else reference, resolved, columns)
    alone = reference is None
    query, source = measure_both(adata, reference, resolved, columns=columns, work=work, labelled=alone, design=alone)
    numbers, source = _find(patients, query.cohort), source or query
    classes = source.cohort.classes
    if len(classes) < 2:
        msg = f"Scores need two diseases, and there is only {str(classes[0])!r}."
        raise ValueError(msg)
    typical = typical_patients(source, steps, seed=work.seed)
    scored = np.unique(numbers)
    left_out = _left_out(query, scored, typical=typical, steps=steps) if alone else {}
    to, apart = _distances(query, scored, typical=typical, left_out=left_out, steps=steps)
    scores = _positions(to, apart)[np.searchsorted(scored, numbers)]
    names = Keys(metric).scores(classes.tolist())
    write_all(patients, {("obs", name): column for name, column in zip(names, scores.T, strict=True)})


def _check_roles(adata: AnnData, patients: AnnData, *, key: str) -> None:
    """Raise unless cells come first and patients second."""
    check_anndata(adata)
    check_anndata(patients, name="patients")
    key = Keys(key).distances
    for slot in ("obsp", "obsm"):
        if key in getattr(adata, slot):
            call = "score_patients(cells, patients)"
            msg = f"`adata` holds patients, not cells: it has {slot}[{key!r}]. Pass the cells first: {call}."
            raise ValueError(msg)


def _find(patients: AnnData, cohort: Cohort) -> NDArray[np.intp]:
    """Number of each patient in the cohort, by name."""
    names = patients.obs_names.to_numpy(dtype=str)
    number: NDArray[np.intp] = np.minimum(np.searchsorted(cohort.patients, names), len(cohort) - 1)
    if (missing := names[cohort.patients[number] != names]).size:
        listed = ", ".join(map(repr, cohort.patients[:3].tolist())) + (", …" if len(cohort) > 3 else "")
        msg = (
            f"{missing.size} of the {len(names)} rows of `patients` are not patients of adata, e.g. "
            f"{str(missing[0])!r}; it has {listed}. Pass what `gml.tl.patient_distances` returned for these cells."
        )
        raise ValueError(msg)
    return number


def _left_out(measured: Measured, scored: NDArray[np.intp], *, typical: list[Barycenter], steps: Steps) -> LeftOut:
    """Points of the typical patient of other donors, by patient and disease, for the diseases of the own donor."""
    labels, design = measured.cohort.labels, measured.cohort.design
    groups = donors = design.groups
    if len(np.unique(donors)) > MOST_GROUPS:
        groups = design.shuffled(np.random.default_rng(0)) % MOST_GROUPS
    group_of: dict[tuple[int, int], tuple[int, int]] = {}
    tasks = {}
    for patient in scored[labels[scored] >= 0].tolist():
        own, out = donors == donors[patient], groups == groups[patient]
        for disease in np.unique(labels[own & (labels >= 0)]).tolist():
            key = group_of[patient, disease] = int(groups[patient]), disease
            of_disease = labels == disease
            if (of_disease & ~out).any():
                tasks[key] = disease, np.flatnonzero(of_disease & ~out), np.flatnonzero(of_disease & out)
    without = partial(_without, clouds=measured.clouds, typical=typical, steps=steps)
    typical_of_others = parallel(without, list(tasks.values()), n_jobs=steps.n_jobs, description="leaving patients out")
    centers = dict(zip(tasks, typical_of_others, strict=True))
    if moving := [center.change for center in centers.values() if not center.converged]:
        steps.warn(f"The typical patients without {len(moving)} of {len(tasks)} patients", "one", max(moving))
    return {key: centers[group].z if group in centers else None for key, group in group_of.items()}


def _without(
    task: tuple[int, NDArray[np.intp], NDArray[np.intp]],
    *,
    clouds: Clouds,
    typical: list[Barycenter],
    steps: Steps,
) -> Barycenter:
    """The typical patient of a disease without some patients, started from that with them; on one worker."""
    disease, kept, own = task
    return steps.find(clouds, kept, typical[disease].without(clouds, own), n_jobs=1)


def _distances(
    measured: Measured, scored: NDArray[np.intp], *, typical: list[Barycenter], left_out: LeftOut, steps: Steps
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of each patient to the typical patients, (p, c), and of these from each other, (p, c, c).

    Those of `left_out` replace the typical patients of all; NaN where there is none.
    """
    clouds, ground = measured.clouds, measured.metric.ground()
    p, c, first = len(scored), len(typical), len(clouds.start) - 1
    present = {key: z for key, z in left_out.items() if z is not None}
    supports = [center.z for center in typical] + list(present.values())
    joined = join([clouds, *(Clouds(z, np.full(len(z), 1 / len(z)), np.array([0, len(z)])) for z in supports)])
    number = np.tile(first + np.arange(c), (p, 1))  # of the typical patients of each patient
    place = {key: first + c + i for i, key in enumerate(present)}
    for patient, disease in left_out:
        number[np.searchsorted(scored, patient), disease] = place.get((patient, disease), MISSING)
    to = np.stack([np.broadcast_to(scored[:, None], (p, c)), number], axis=-1)
    apart = np.stack(np.broadcast_arrays(number[:, :, None], number[:, None, :]), axis=-1)
    ends = np.sort(np.concatenate([to.reshape(-1, 2), apart.reshape(-1, 2)]), axis=1)
    differ = (ends[:, 0] != MISSING) & (ends[:, 0] < ends[:, 1])
    pairs, number = np.unique(ends[differ], axis=0, return_inverse=True)
    solved = transport(joined, pairs, ground=ground, solver=steps.solver, plans=False, n_jobs=steps.n_jobs)
    distances = np.where((ends == MISSING).any(axis=1), np.nan, 0.0)
    distances[differ] = solved.distances[number.reshape(-1)] ** (1 / ground.power)
    return distances[: p * c].reshape(p, c), distances[p * c :].reshape(p, c, c)


def _positions(to: NDArray[np.float64], apart: NDArray[np.float64]) -> NDArray[np.float64]:
    """Score of each patient for each disease, shape (p, c); NaN where something is missing."""
    scores = np.full_like(to, np.nan)
    rows = np.arange(len(to))
    for code in range(to.shape[1]):
        to_others = np.where(np.isnan(to), np.inf, to)
        to_others[:, code] = np.inf
        nearest = to_others.argmin(axis=1)
        gain, gap = to_others[rows, nearest] - to[:, code], apart[rows, code, nearest]
        is_known = np.isfinite(gain) & (gap > 0)
        scores[is_known, code] = gain[is_known] / gap[is_known]
    return scores
