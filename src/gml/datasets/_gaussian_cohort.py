"""The synthetic set of the paper: one feature that tells the classes apart, and noise that hides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from gml._base import check_float, check_int, check_rng

from ._names import cell_names, labelled, numbered, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MODES = ("own", "shared_1", "shared_2")
_SIGNAL_OF_SHARED = (0.0, 40.0)
_SD = 1.5
_NOISE_OF_MODES = np.array([10.0, 0.0, 50.0])
_NOISE_HALF_WIDTH = 2.5
_OFFSET_STEP = 3.0


def gaussian_cohort(
    *,
    n_patients: int = 30,
    n_cells: int = 300,
    n_features: int = 2,
    n_diseases: int = 3,
    noise: float | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    r"""Draw the synthetic set of :cite:t:`Kuehn2025`: one feature is the signal, all others are noise.

    Every patient is a mixture of three modes with equal numbers of cells. The own mode of the patients of class
    :math:`c = 1, 2, \dots` lies at :math:`10 + 5c` in the signal; two modes at 0 and 40 are shared by all classes.
    In each noise feature the own mode is uniform within 2.5 around :math:`10 + 3r` for the :math:`r`-th patient of a
    class (:math:`r = 0, 1, \dots`), which says nothing about the class; the shared modes lie at 0 and 50.
    All else is normal with standard deviation 1.5, and the noise features are multiplied by `noise` in the end.

    The defaults have the published size in two dimensions; ``n_features=200`` is the one in 200 dimensions.

    Parameters
    ----------
    n_patients
        Number of distributions, at least `n_diseases`; classes take turns.
    n_cells
        Points of each; what is left after a division by three goes to the first modes.
    n_features
        The signal and ``n_features - 1`` noise features.
    n_diseases
        Number of classes.
    noise
        Factor on the noise features, at least 0; `None` is as published: 1000 for two features, otherwise 1.
    rng
        Seed or generator.

    Returns
    -------
    Cells × features:

    `.X` : :class:`numpy.ndarray` (n_patients · n_cells, n_features)
        float64.
    `.obs['patient']`, `.obs['disease']`, `.obs['mode']` : categorical
        ``"P00"`` …, ``"class_1"`` …, and ``"own"``, ``"shared_1"`` or ``"shared_2"``.
    `.var['disease_gene']` : bool
        True for the signal.
    `.obs_names`, `.var_names`
        ``"P00_c0000"`` …; ``"signal"``, ``"noise_1"`` ….

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type or out of range, for instance fewer patients than classes.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30, n_features=5)
    >>> adata.shape
    (180, 5)
    >>> own = adata[adata.obs["mode"] == "own"].to_df()["signal"]
    >>> own.groupby(adata.obs["disease"], observed=True).mean().round().tolist()
    [15.0, 20.0, 25.0]
    """
    rng = check_rng(rng)
    n_diseases = check_int(n_diseases, name="n_diseases")
    n_patients = check_int(n_patients, name="n_patients", low=n_diseases)
    n_cells = check_int(n_cells, name="n_cells")
    n_features = check_int(n_features, name="n_features")
    scale = (1000.0 if n_features == 2 else 1.0) if noise is None else check_float(noise, name="noise")

    modes = np.arange(n_cells) % len(_MODES)  # (n_cells,)
    rank, disease = np.divmod(np.arange(n_patients), n_diseases)  # (p,), (p,)
    signal = _signal(disease, modes, n_diseases=n_diseases, rng=rng)  # (p, n_cells, 1)
    noises = scale * _noise(rank, modes, n_features=n_features - 1, rng=rng)  # (p, n_cells, d - 1)

    patients = padded("P", n_patients, width=2)
    obs = pd.DataFrame(
        {
            "patient": labelled(np.repeat(np.arange(n_patients), n_cells), patients),
            "disease": labelled(np.repeat(disease, n_cells), numbered("class_", n_diseases)),
            "mode": labelled(np.tile(modes, n_patients), _MODES),
        },
        index=cell_names(patients, [n_cells] * n_patients),
    )
    var = pd.DataFrame(
        {"disease_gene": np.arange(n_features) == 0}, index=["signal", *numbered("noise_", n_features - 1)]
    )
    return AnnData(np.concatenate([signal, noises], axis=2).reshape(-1, n_features), obs=obs, var=var)


def _signal(
    disease: NDArray[np.intp], modes: NDArray[np.intp], *, n_diseases: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    own = 15.0 + 5.0 * np.arange(n_diseases)
    centres = np.column_stack([own, np.tile(_SIGNAL_OF_SHARED, (n_diseases, 1))])  # (classes, modes)
    return rng.normal(centres[disease][:, modes], _SD)[:, :, None]


def _noise(
    rank: NDArray[np.intp], modes: NDArray[np.intp], *, n_features: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    shape = (len(rank), len(modes), n_features)
    own = _OFFSET_STEP * rank[:, None, None] + rng.uniform(-_NOISE_HALF_WIDTH, _NOISE_HALF_WIDTH, shape)
    noise: NDArray[np.float64] = np.where((modes == 0)[:, None], own, rng.normal(0.0, _SD, shape))
    noise += _NOISE_OF_MODES[modes][:, None]
    return noise
