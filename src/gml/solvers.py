"""How patients are compared: the settings that `solver=` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

from gml._base import check_choice, check_float, check_int, check_str

__all__ = ["Centroids", "Exact", "Gaussian", "Partial", "Sinkhorn", "Sliced"]

Covariance: TypeAlias = Literal["full", "diag"]
Dtype: TypeAlias = Literal["float64", "float32"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Solver:
    """What the settings of every solver have in common; the engine of each is registered in ``gml._ot``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact(Solver):
    """Exact optimal transport, by a network simplex :cite:p:`Ahuja1993,Bonneel2011` compiled for many small pairs.

    The first call on a machine compiles it, which takes ten to thirty seconds. The tests compare it with POT
    :cite:p:`Flamary2021`. Time grows as :math:`n^3` in the points of a patient, memory of one pair as :math:`n^2`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> solver = gml.solvers.Exact(max_iter=2_000_000)
    >>> patients = gml.tl.patient_distances(adata, metric=None, solver=solver)
    """

    max_iter: int = 1_000_000
    """Pivots of the simplex before it gives up with an error."""
    mass: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_int(self.max_iter, name="max_iter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial(Solver):
    r"""Exact transport of a part of the mass: the rest, such as a cell type that one patient lacks, stays.

    .. math:: D_{pq} = \min_\pi \frac{1}{m} \sum_{ij} \pi_{ij} C_{ij}, \quad
        \pi \ge 0, \; \pi 1 \le a_p, \; \pi^\top 1 \le a_q, \; \textstyle\sum_{ij} \pi_{ij} = m

    with the `mass` m; this is partial optimal transport :cite:p:`Chapel2020`. It is symmetric and zero between equal
    patients, but no metric: patients who share the share m of their cells have the distance 0.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None, solver=gml.solvers.Partial(mass=0.8))
    """

    mass: float = 0.9
    """Share of each patient's cells that is moved, above 0 and at most 1; 1 is :class:`Exact`."""
    max_iter: int = 1_000_000
    """Pivots of the simplex before it gives up with an error."""

    def __post_init__(self) -> None:
        check_float(self.mass, name="mass", low_allowed=False, high=1.0)
        check_int(self.max_iter, name="max_iter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sinkhorn(Solver):
    r"""Entropic optimal transport, many pairs at once in torch, on CPU or GPU :cite:p:`Cuturi2013,Feydy2019`.

    With :math:`\mathrm{OT}_\varepsilon(p, q) = \min_\pi \langle \pi, C \rangle + \varepsilon \,
    \mathrm{KL}(\pi \Vert a_p \otimes a_q)` the distance is the debiased

    .. math:: D_{pq} = \mathrm{OT}_\varepsilon(p, q)
        - \tfrac12 \mathrm{OT}_\varepsilon(p, p) - \tfrac12 \mathrm{OT}_\varepsilon(q, q) \ge 0

    or with ``debias=False`` the cost :math:`\langle \pi, C \rangle` of the entropic plan, which is at least that of
    the exact one, and whose gradient in learning takes the plan as constant. All three terms have the strength
    :math:`\varepsilon` of their pair.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None, solver=gml.solvers.Sinkhorn(epsilon=0.1))
    """

    epsilon: float = 0.05
    """Entropic strength :math:`\\varepsilon`: small is near to exact and slow, large is smooth and fast."""
    relative: bool = True
    """Whether `epsilon` is a fraction of the mean ground cost between the points of the two patients, so that a factor
    of all features does not matter; otherwise it is in the unit of the ground cost."""
    debias: bool = True
    """Whether what transport within each patient costs is taken off, so that equal patients have the distance 0."""
    max_iter: int = 2_000
    """Iterations of a pair at most. A pair that needs more is named in a warning."""
    tol: float = 1e-4
    """A pair is done when its plan misses the weights of the points by less than this share of the mass."""
    device: str = "cpu"
    """Where torch computes: ``"cpu"``, ``"cuda"`` (or ``"cuda:1"``), ``"mps"``."""
    dtype: Dtype = "float64"
    """Precision, ``"float64"`` or ``"float32"``; the latter is enough for `epsilon` above 0.01, and all that ``"mps"``
    has."""

    def __post_init__(self) -> None:
        check_float(self.epsilon, name="epsilon", low_allowed=False)
        check_choice(self.relative, name="relative", choices=[True, False])
        check_choice(self.debias, name="debias", choices=[True, False])
        check_int(self.max_iter, name="max_iter")
        check_float(self.tol, name="tol", low_allowed=False, high=1.0)
        check_str(self.device, name="device")
        check_choice(self.dtype, name="dtype", choices=get_args(Dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian(Solver):
    r"""Patients as one Gaussian each, or as mixtures of Gaussians: the fastest, of all cells.

    The ground cost of two Gaussians is the squared Bures–Wasserstein distance

    .. math:: \lVert L (m - m') \rVert^2 + \operatorname{tr}\bigl(S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2}\bigr),
        \quad S = L \Sigma L^\top

    or its root for power 1; between mixtures, components are transported exactly :cite:p:`Delon2020`.
    `n_points` plays no part: every cell is read.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None, solver="gaussian")
    """

    n_components: int | Literal["bic"] = 1
    """Gaussians per patient; ``"bic"`` takes the number, up to `max_components`, with the least Bayesian information
    criterion. Patients with few cells get fewer."""
    covariance: Covariance = "full"
    """``"full"``, or ``"diag"`` for features taken as uncorrelated, as with thousands of genes."""
    shrinkage: float = 0.1
    """How far covariances are drawn to a sphere, in [0, 1]: :math:`(1 - s) \\Sigma + s \\operatorname{tr}(\\Sigma) / d
    \\, I`."""
    max_components: int = 8
    """What ``n_components="bic"`` tries at most."""

    def __post_init__(self) -> None:
        if self.n_components != "bic":
            check_int(self.n_components, name="n_components")
        check_choice(self.covariance, name="covariance", choices=get_args(Covariance))
        check_float(self.shrinkage, name="shrinkage", high=1.0)
        check_int(self.max_components, name="max_components")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliced(Solver):
    r"""Sliced transport: exact on random lines through the space of the cells, of all cells :cite:p:`Bonneel2015`.

    .. math:: D_{pq} = \frac{1}{T} \sum_{t=1}^T W_q^q(\theta_t^\top L p, \theta_t^\top L q)

    with directions :math:`\theta_t` on the sphere, in orthonormal sets :cite:p:`Rowland2019`. For power 1 it is what
    :func:`ot.sliced.sliced_wasserstein_distance` returns, for power 2 its square, the cost, as with every solver here.
    Time and memory grow as :math:`n \log n` and :math:`n` in the cells, so tens of thousands of cells per patient are
    no burden. `n_points` plays no part: every cell is read.

    It measures distances, under a fixed or a learned metric; no metric can be learned with it.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None, solver=gml.solvers.Sliced(n_projections=100))
    """

    n_projections: int = 50
    """Directions T."""
    seed: int = 0
    """Of the directions, which are the same for all pairs and calls."""

    def __post_init__(self) -> None:
        check_int(self.n_projections, name="n_projections")
        check_int(self.seed, name="seed", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Centroids(Solver):
    """Patients as proportions of cell types (or clusters) that lie at their centroids, as PILOT :cite:p:`Joodaki2024`.

    Exact transport between the centroids, which are the mean cells of each type over all patients (in training over
    the training patients, with a reference over its patients), or each patient's own. `n_points` plays no part: every
    cell is read.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=40, n_genes=60)
    >>> solver = gml.solvers.Centroids(cell_type_key="cell_type")
    >>> patients = gml.tl.patient_distances(adata, metric=None, solver=solver)
    """

    cell_type_key: str = "cell_type"
    """Column of ``adata.obs`` with the cell type or cluster of each cell."""
    per_patient: bool = False
    """Whether each patient has centroids of their own, so that also what cells of a type are like counts; otherwise
    only proportions differ."""
    mass: float = 1.0
    """Share of the mass that is moved, as in :class:`Partial`."""
    max_iter: int = 1_000_000
    """Pivots of the simplex before it gives up with an error."""

    def __post_init__(self) -> None:
        check_str(self.cell_type_key, name="cell_type_key")
        check_choice(self.per_patient, name="per_patient", choices=[True, False])
        check_float(self.mass, name="mass", low_allowed=False, high=1.0)
        check_int(self.max_iter, name="max_iter")


SolverName: TypeAlias = Literal["exact", "partial", "sinkhorn", "gaussian", "sliced", "centroids"]
ExactName: TypeAlias = Literal["exact"]
NAMED: dict[str, type[Solver]] = {
    kind.__name__.lower(): kind for kind in (Exact, Partial, Sinkhorn, Gaussian, Sliced, Centroids)
}


def resolve_solver(solver: Solver | SolverName) -> Solver:
    """Settings behind a name."""
    return solver if isinstance(solver, Solver) else NAMED[check_choice(solver, name="solver", choices=NAMED)]()


def resolve_exact(solver: Solver | ExactName) -> Exact:
    """Settings of exact transport, for what reads plans."""
    settings = resolve_solver(solver)
    if not isinstance(settings, Exact):
        msg = f"`solver` must be 'exact' or a gml.solvers.Exact, got {solver!r}: exact plans are read here."
        raise ValueError(msg)
    return settings


def solver_name(solver: Solver) -> str:
    """Name of a solver, as `solver=` takes it."""
    return type(solver).__name__.lower()
