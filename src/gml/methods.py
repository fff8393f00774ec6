"""How a metric is learned, or that it is fixed: the settings that `method=` and `metric=` take."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from gml._base import (
    ESTIMATED,
    NAMES,
    Distance,
    Penalty,
    PenaltyName,
    check_choice,
    check_float,
    check_function,
    check_int,
    check_metric,
    check_str,
    metric_name,
    resolve_penalty,
)

__all__ = ["Auto", "Discriminant", "Fixed", "Penalty", "Triplet"]

Init: TypeAlias = Literal["discriminant", "orthogonal", "uniform"]
Power: TypeAlias = Literal[1, 2]
Target: TypeAlias = Literal["classes", "ordered"]

MAX_PAIRS = 20_000  # of patients, that are transported at most by default


def __dir__() -> list[str]:
    return __all__


def _changed_fields(settings: Triplet | Discriminant | Auto) -> str:
    """``Discriminant(shrinkage=0.3)``: what differs from the defaults, as scikit-learn does."""
    values = ((setting, getattr(settings, setting.name)) for setting in fields(settings))
    shown = ", ".join(f"{setting.name}={value!r}" for setting, value in values if value != setting.default)
    return f"{type(settings).__name__}({shown})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Triplet:
    r"""The published learner: gradient descent on a triplet loss :cite:p:`Kuehn2025`.

    .. math::

        \min_L \; \operatorname{mean}_{(i, j, k)} \max(0, D_{ij} - D_{jk} + \alpha) + \lambda \Omega(L)

    over triplets of patients in which anchor :math:`j` and :math:`i \ne j` share a disease and :math:`k` has another;
    :math:`D` is the optimal transport distance under the ground metric :math:`\lVert L (x - x') \rVert_2`.
    Features are divided by one number, their mean optimal transport distance between patients, before learning;
    the margin is in that unit, so defaults carry from one data set to another. Learning stops after `max_iter` passes,
    or when ten passes brought no improvement; the map of the pass with the lowest loss is kept.

    The time of a pass grows with the square of the number of patients, up to `max_pairs`. With hundreds of patients,
    ``n_triplets=4`` takes about a sixth of it and ``batch_size=32`` a fifth. The loss of a pass in batches is the
    mean over them.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> method = gml.methods.Triplet(margin=2.0, max_iter=5)
    >>> method
    Triplet(margin=2.0, max_iter=5)
    >>> gml.tl.learn_metric(adata, method=method)
    """

    margin: float = 1.0
    """:math:`\\alpha`, how much closer patients must be to their own class; 1 is the mean Euclidean distance."""
    reg: float = 0.1
    """:math:`\\lambda`, weight of the penalty."""
    penalty: PenaltyName | Penalty = "frobenius"
    """:math:`\\Omega`: ``"frobenius"`` (as published), the norm of :math:`L`; ``"nuclear"``, the sum of its singular
    values; ``"l1"``, the sum of the sizes of its entries over :math:`\\sqrt{kd}`; ``"group_lasso"``, the sum of the
    lengths of its columns, one per feature, over :math:`\\sqrt d` :cite:p:`Yuan2006`. The last two are as large as the
    Frobenius norm where all entries or columns are of one size. They make exact zeros, by a proximal step after each
    step of Adam: l1 of single entries, so components are stored as they were learned, without a rotation to orthogonal
    ones; the group lasso of whole features, so the metric reads few genes if it is learned on genes
    (``use_rep="X"``). Compare several `reg` with :func:`gml.tl.tune`. A penalty that leaves nothing gives a warning and
    the Euclidean metric. :class:`Penalty` makes others."""
    n_triplets: int | None = None
    """Triplets drawn per anchor: once, or with `batch_size` anew in every batch; `None` takes all."""
    batch_size: int | None = None
    """Patients per step, at least 4; `None` takes all. Every pass divides the patients at random into batches of at
    most about this size, donors together and diseases spread over them, and makes one step per batch. A pass over p
    patients then transports about p · `batch_size` / 2 pairs instead of p² / 2. Batches are larger where a disease is
    too rare to be in all of them."""
    max_pairs: int | None = MAX_PAIRS
    """Pairs of patients that are transported per step at most; `None` takes all. With more, every patient draws the
    same number of patients of the same and of other diseases. It holds for held-out patients (`early_stopping`) too."""
    max_iter: int = 30
    """Passes over the triplets at most."""
    learning_rate: float = 0.05
    """Step of Adam; with `batch_size` that of a whole pass, of which every batch makes its share."""
    init: Init = "discriminant"
    """Start: the closed form of :class:`Discriminant`, or as published random orthonormal rows, or entries uniform on
    (-1, 1)."""
    power: Power = 1
    """Exponent q of the ground cost: 1 (as published) or 2."""
    early_stopping: bool = False
    """Whether held-out patients decide after how many passes to stop: three folds are learned without some patients
    each, and all patients then make as many passes as the held-out loss was best at. Takes four times as long."""
    target: Target = "classes"
    """``"classes"``, or ``"ordered"`` for a disease column of numbers or of ordered categories, such as severity or
    age: patients must then be further apart the more they differ in it, with a margin in proportion."""

    __repr__ = _changed_fields

    def __post_init__(self) -> None:
        check_float(self.margin, name="margin", low_allowed=False)
        check_float(self.reg, name="reg")
        resolve_penalty(self.penalty)
        for name, low in (("n_triplets", 1), ("batch_size", 4), ("max_pairs", 2)):
            if (number := getattr(self, name)) is not None:
                check_int(number, name=name, low=low)
        check_int(self.max_iter, name="max_iter")
        check_float(self.learning_rate, name="learning_rate", low_allowed=False)
        check_choice(self.init, name="init", choices=get_args(Init))
        check_choice(self.power, name="power", choices=get_args(Power))
        check_choice(self.early_stopping, name="early_stopping", choices=[True, False])
        check_choice(self.target, name="target", choices=get_args(Target))
        if self.target == "ordered" and self.n_triplets is not None:
            msg = f"`n_triplets` must be None with target='ordered', which takes all triplets, got {self.n_triplets!r}."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Discriminant:
    r"""Wasserstein discriminant analysis: discriminant analysis of the displacements between patients, in closed form.

    With optimal plans :math:`\pi` under the current metric, let :math:`S_w` and :math:`S_b` be the means over pairs of
    patients with the same and with different diseases of :math:`\sum_{ij} \pi_{ij} (x_i - x_j)(x_i - x_j)^\top`.
    The rows of :math:`L` are :math:`\sqrt{\mu} v` for the largest :math:`\mu > 0` of

    .. math:: (S_b - S_w) v = \mu \bigl((1 - s) S_w + s \operatorname{tr}(S_w) / r \, I\bigr) v

    with :math:`r` the rank of the points.

    The metric can be the weighted sum of three: of this map (`directions`), of the inverse of
    :math:`(1 - s) S_w + s \operatorname{tr}(S_w) / r \, I` (`whitening`, relevant component analysis
    :cite:p:`BarHillel2005`), and of the Euclidean metric (`euclidean`). Each is first scaled so that patients have the
    same mean squared distance. The last two have no favourites among directions, which keeps a metric that was learned
    from few patients from doing worse on new ones than none. They act on the 50 leading axes of the points at most.

    In more than 400 dimensions, as with thousands of genes, directions are searched among the 200 leading axes of the
    points. It takes about the time of one pass of :class:`Triplet`. Wasserstein discriminant analysis
    :cite:p:`Flamary2018` and canonical variates in the Wasserstein space :cite:p:`Li2024` maximise a ratio of transport
    costs between and within classes by iterating over plans and subspace; here plans are Euclidean at first, the
    difference of both scatters stands on the left, and what is within is shrunk, so that one eigenvalue problem
    suffices.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> method = gml.methods.Discriminant(shrinkage=0.3, euclidean=1.0)
    >>> gml.tl.learn_metric(adata, method=method)
    """

    shrinkage: float | Literal["auto"] = 0.5
    """:math:`s` in [0, 1]: 0 trusts the within-disease scatter, 1 replaces it by a sphere; ``"auto"`` estimates it
    from how much the scatter changes when patients are left out :cite:p:`Ledoit2004`."""
    rounds: int = 1
    """How often the plans are solved again, each time under the metric found so far; the first are Euclidean."""
    directions: float = 1.0
    """Weight of the directions of disease."""
    whitening: float = 0.0
    """Weight of the inverse within-disease scatter."""
    euclidean: float = 0.0
    """Weight of the Euclidean metric."""
    balanced: bool = False
    """Whether every disease, and every pair of diseases, counts the same, however many patients it has."""
    max_pairs: int | None = MAX_PAIRS
    """Pairs of patients that are transported at most; `None` takes all. With more, every patient draws the same number
    of patients of the same and of other diseases."""
    target: Target = "classes"
    """``"classes"``, or ``"ordered"`` for a disease column of numbers or of ordered categories: a pair of patients
    then counts as different in proportion to the gap between them."""
    power: ClassVar[Power] = 1
    """Exponent of the ground cost of distances under the learned metric."""

    __repr__ = _changed_fields

    def __post_init__(self) -> None:
        if self.shrinkage != "auto":
            check_float(self.shrinkage, name="shrinkage", high=1.0)
        check_int(self.rounds, name="rounds")
        if self.max_pairs is not None:
            check_int(self.max_pairs, name="max_pairs", low=2)
        for name in ("directions", "whitening", "euclidean"):
            check_float(getattr(self, name), name=name)
        if not (self.directions or self.whitening or self.euclidean):
            msg = "One of `directions`, `whitening` and `euclidean` must be above 0, got 0 for all."
            raise ValueError(msg)
        check_choice(self.balanced, name="balanced", choices=[True, False])
        check_choice(self.target, name="target", choices=get_args(Target))
        if self.target == "ordered" and self.balanced:
            msg = "`balanced` must be False with target='ordered', which has no classes to count alike, got True."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Auto:
    """Choose between the Euclidean metric and learned ones on patients that are held out.

    The training patients are split again and again; every candidate is learned on one side and judged on the other: how
    often is a held-out patient nearer to a patient of their own disease than to one of another? The candidates are
    :class:`Discriminant` with whitening and the Euclidean metric added and with a shrinkage that is estimated, which is
    kept unless another is better by more than one standard error; the Euclidean metric; whitening alone;
    ``Discriminant(shrinkage=0.5)`` alone; and ``Discriminant(shrinkage=0.1, whitening=1)``. What is chosen is learned
    on all patients.

    The scores are stored in ``uns[key]["choice"]``. They are of the patients that the choice was made with; for an
    honest score see :func:`gml.tl.cross_validate`, which chooses anew in every split. A choice is made on 100 patients
    and 32 points of each at most. With fewer than 12 patients, or if nobody can be held out, the first candidate is
    taken and there is no table.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> gml.tl.learn_metric(adata, method=gml.methods.Auto(n_splits=3))
    >>> gml.get.metric(adata).choice.columns.tolist()
    ['candidate', 'auc', 'gain', 'gain_error', 'chosen']
    """

    n_splits: int = 10
    """Splits of the training patients, 70/30 and stratified by disease."""
    triplet: bool = False
    """Whether the published learner, with 10 passes, is a candidate too. It takes most of the time then."""

    __repr__ = _changed_fields

    def __post_init__(self) -> None:
        check_int(self.n_splits, name="n_splits", low=2)
        check_choice(self.triplet, name="triplet", choices=[True, False])


@dataclass(frozen=True, slots=True, init=False)
class Fixed:
    r"""A ground metric that is not learned, for comparison.

    Parameters
    ----------
    name
        A metric of :func:`scipy.spatial.distance.cdist` without parameters, or a function of two cells, arrays of shape
        (d,), that gives a finite number of at least 0. It need not be a metric, and must not change the cells. It is
        called for every pair of points, which is slow: 4,096 calls for two patients of 64 points.
    function
        A function, to give it the `name` of your choice.

    Notes
    -----
    ``"dice"``, ``"hamming"``, ``"jaccard"``, ``"matching"``, ``"rogerstanimoto"``, ``"russellrao"``,
    ``"sokalsneath"`` and ``"yule"`` compare which features are not 0, so they suit genes and all cells
    (``use_rep="X"``, ``n_points=None``): means of cells have few zeros. ``"russellrao"`` is not 0 between equal cells.

    ``"seuclidean"`` divides every feature by its standard deviation, ``"mahalanobis"`` every direction:

    .. math:: d(x, y) = \sqrt{(x - y)^\top \Sigma^{-1} (x - y)}

    with the covariance :math:`\Sigma` of the points of all patients, in which each patient weighs the same. Scipy would
    take another one for every pair of patients. With a `reference` it is that of the reference patients, and in
    :func:`gml.tl.cross_validate` that of the training patients. What does not vary is left out.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=gml.methods.Fixed("cityblock"))

    Cells are as far apart as they are in their first feature:

    >>> def first(u, v):
    ...     return abs(u[0] - v[0])
    >>> gml.methods.Fixed(first)
    Fixed(name='function first')
    >>> patients = gml.tl.patient_distances(adata, metric=gml.methods.Fixed(first))
    """

    name: str
    """The metric of scipy, or what stands for the function in results."""
    function: Distance | None = field(default=None, repr=False)
    """The function, if it is one."""
    power: ClassVar[Power] = 1
    """Exponent of the ground cost."""

    def __init__(self, name: str | Distance, *, function: Distance | None = None) -> None:
        """Check the metric; a function alone gets its own name."""
        if function is not None:
            given = check_str(name, name="name")
            if given in NAMES:
                msg = f"`name` must not be {name!r} with a `function`, as it is a metric of scipy; take another name."
                raise ValueError(msg)
            function = check_function(function, argument="function")
        elif isinstance(name, str):
            given = check_metric(name)
        else:
            function = check_function(name, argument="name")
            given = metric_name(function)
        object.__setattr__(self, "name", given)
        object.__setattr__(self, "function", function)

    @property
    def estimated(self) -> bool:
        """Whether it is Euclidean after a scaling that is estimated from the points of patients."""
        return self.name in ESTIMATED

    @property
    def ground(self) -> str | Distance:
        """What is measured between points, after that scaling: a name for scipy, or the function."""
        if self.function is not None:
            return self.function
        return "euclidean" if self.estimated else self.name


Method: TypeAlias = Triplet | Discriminant | Fixed
AnyMethod: TypeAlias = Method | Auto
MethodName: TypeAlias = Literal["auto", "discriminant", "triplet", "euclidean"]
NAMED: dict[str, AnyMethod] = {
    "auto": Auto(),
    "discriminant": Discriminant(),
    "triplet": Triplet(),
    "euclidean": Fixed("euclidean"),
}


def resolve_method(method: AnyMethod | MethodName | str, *, name: str = "method") -> AnyMethod:
    """Settings behind a name."""
    if isinstance(method, AnyMethod):
        return method
    return NAMED[check_choice(method, name=name, choices=NAMED)]


def method_name(method: AnyMethod) -> str:
    """Name of a method, as `method=` takes it."""
    return method.name if isinstance(method, Fixed) else type(method).__name__.lower()


def settings_of(method: AnyMethod) -> dict[str, Any]:
    """Fields of a method that repeat it, as they are stored: a penalty by its name; a function cannot be."""
    values = {setting.name: getattr(method, setting.name) for setting in fields(method) if setting.name != "function"}
    return {name: value.name if isinstance(value, Penalty) else value for name, value in values.items()}
