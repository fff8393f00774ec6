"""How a metric is learned, or that it is fixed: the settings that `method=` and `metric=` take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from ._checks import check_choice, check_float, check_int

__all__ = ["Fixed", "Spectral", "Triplet"]

Penalty: TypeAlias = Literal["frobenius", "l1", "group_lasso", "nuclear"]
Init: TypeAlias = Literal["spectral", "orthogonal", "uniform"]
Power: TypeAlias = Literal[1, 2]

#: metrics of `scipy.spatial.distance.cdist` that are defined for real features without more parameters
FIXED = (
    "braycurtis",
    "canberra",
    "chebyshev",
    "cityblock",
    "correlation",
    "cosine",
    "euclidean",
    "jensenshannon",
    "sqeuclidean",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Triplet:
    r"""The published learner: gradient descent on a triplet loss :cite:p:`Kuehn2025`.

    .. math::

        \min_L \; \operatorname{mean}_{(i, j, k)} \max(0, D_{ij} - D_{jk} + \alpha) + \lambda \Omega(L)

    over triplets of patients in which anchor :math:`j` and :math:`i \ne j` share a disease and :math:`k` has another;
    :math:`D` is the optimal transport distance under the ground metric :math:`\lVert L (x - x') \rVert_2`.
    Features are divided by one number, their mean optimal transport distance between patients, before learning;
    the margin is in that unit, so defaults carry from one data set to another. Learning stops after `max_iter` passes,
    or when ten passes brought no improvement; the best map that was evaluated is kept.
    """

    margin: float = 1.0
    """:math:`\\alpha`, how much closer patients must be to their own class; 1 is the mean Euclidean distance."""
    reg: float = 0.1
    """:math:`\\lambda`, weight of the penalty."""
    penalty: Penalty = "frobenius"
    """:math:`\\Omega`: ``"frobenius"`` (as published), ``"l1"``, ``"group_lasso"`` over features, ``"nuclear"``."""
    n_triplets: int | None = None
    """Triplets drawn per anchor, once; `None` takes all."""
    max_iter: int = 30
    """Passes over the triplets at most."""
    learning_rate: float = 0.05
    """Step of Adam."""
    init: Init = "spectral"
    """Start: the closed form of :class:`Spectral`, or as published random orthonormal rows, or entries uniform on
    (-1, 1)."""
    power: Power = 1
    """Exponent q of the ground cost: 1 (as published) or 2."""

    def __post_init__(self) -> None:
        """Check every field once."""
        check_float(self.margin, name="margin", low_allowed=False)
        check_float(self.reg, name="reg")
        check_choice(self.penalty, name="penalty", choices=get_args(Penalty))
        if self.n_triplets is not None:
            check_int(self.n_triplets, name="n_triplets")
        check_int(self.max_iter, name="max_iter")
        check_float(self.learning_rate, name="learning_rate", low_allowed=False)
        check_choice(self.init, name="init", choices=get_args(Init))
        check_choice(self.power, name="power", choices=get_args(Power))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectral:
    r"""The closed form: discriminant analysis of the displacements between patients.

    With optimal plans :math:`\pi` under the current metric, let :math:`S_w` and :math:`S_b` be the means over pairs of
    patients with the same and with different diseases of :math:`\sum_{ij} \pi_{ij} (x_i - x_j)(x_i - x_j)^\top`.
    The rows of :math:`L` are :math:`\sqrt{\mu} v` for the largest :math:`\mu > 0` of

    .. math:: (S_b - S_w) v = \mu \bigl((1 - s) S_w + s \operatorname{tr}(S_w) / r \, I\bigr) v.

    It takes about the time of one pass of :class:`Triplet`. Related to Wasserstein discriminant analysis
    :cite:p:`Flamary2018`.
    """

    shrinkage: float = 0.5
    """:math:`s` in [0, 1]: 0 trusts the within-disease scatter, 1 replaces it by a sphere."""
    rounds: int = 1
    """How often the plans are solved again, each time under the metric found so far; the first are Euclidean."""

    def __post_init__(self) -> None:
        """Check every field once."""
        check_float(self.shrinkage, name="shrinkage", high=1.0)
        check_int(self.rounds, name="rounds")

    @property
    def power(self) -> Power:
        """Exponent of the ground cost of distances under the learned metric."""
        return 1


@dataclass(frozen=True, slots=True)
class Fixed:
    """A ground metric that is not learned, for comparison.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=gml.methods.Fixed("cityblock"))
    """

    name: str
    """One of the metrics of :func:`scipy.spatial.distance.cdist` that need no parameters."""

    def __post_init__(self) -> None:
        """Check the name."""
        check_choice(self.name, name="name", choices=FIXED)

    @property
    def power(self) -> Power:
        """Exponent of the ground cost."""
        return 1


Method: TypeAlias = Triplet | Spectral
MethodName: TypeAlias = Literal["triplet", "spectral"]


def resolve_method(method: Method | MethodName) -> Method:
    """Settings behind a name."""
    if isinstance(method, Triplet | Spectral):
        return method
    check_choice(method, name="method", choices=["triplet", "spectral"])
    return Triplet() if method == "triplet" else Spectral()


def method_name(method: Method) -> MethodName:
    """Name of a method, as `method=` takes it."""
    return "triplet" if isinstance(method, Triplet) else "spectral"
