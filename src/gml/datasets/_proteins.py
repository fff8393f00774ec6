"""Surface proteins measured in the cells of a simulated cohort, as in CITE-seq."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from ._names import padded

if TYPE_CHECKING:
    from mudata import MuData

N_PROTEINS, _OF_DISEASE = 24, 2  # in all, and of each disease
_LOG_MEAN, _LOG_MEAN_SD = 2.0, 0.8
_MARKER_SHIFT = 1.5
_MARKERS = 0.15  # fraction of the proteins that mark a cell type
_BACKGROUND = 1.0  # counts of antibodies that are not bound
_CELL_SD = 0.3
_DISPERSION = 0.1


def with_proteins(
    rna: AnnData, *, effect: float, patient_effect: float, affected_type: str, rng: np.random.Generator
) -> MuData:
    """The cohort with counts of proteins beside those of its genes; the genes are left as they are."""
    try:
        import mudata
    except ImportError as error:
        msg = 'gml.datasets.simulated_cohort(protein=True) needs mudata: pip install "scgml[muon]"'
        raise ImportError(msg) from error
    types, donors, diseases = (rna.obs[column].cat for column in ("cell_type", "donor", "disease"))
    n_diseases = len(diseases.categories)
    n = max(N_PROTEINS, 2 * _OF_DISEASE * n_diseases)
    disease_of = np.full(n, -1)
    disease_of[rng.choice(n, (n_diseases, _OF_DISEASE), replace=False)] = np.arange(n_diseases)[:, None]

    profile = np.tile(rng.normal(_LOG_MEAN, _LOG_MEAN_SD, n), (len(types.categories), 1))
    others = np.flatnonzero(disease_of < 0)
    for of_type in profile:
        of_type[rng.choice(others, max(1, int(_MARKERS * n)), replace=False)] += _MARKER_SHIFT
    shifts = patient_effect * rng.standard_normal((len(donors.categories), n))
    shifts[:, disease_of >= 0] = 0.0
    log_mean = profile[types.codes] + shifts[donors.codes]  # (cells, n)
    is_affected = (rna.obs["cell_type"] == affected_type).to_numpy()
    log_mean += effect * (is_affected[:, None] & (disease_of == diseases.codes.to_numpy()[:, None]))
    of_cell = rng.lognormal(-(_CELL_SD**2) / 2, _CELL_SD, (rna.n_obs, 1))
    mean = of_cell * (np.exp(log_mean) + _BACKGROUND)
    counts = rng.poisson(rng.gamma(1 / _DISPERSION, _DISPERSION, mean.shape) * mean).astype(np.float32)
    names = np.array([*diseases.categories, ""], dtype=object)  # the last one is disease -1
    var = pd.DataFrame(
        {"disease_protein": disease_of >= 0, "disease": names[disease_of]}, index=padded("protein_", n, width=2)
    )
    # mudata 0.4 leaves columns of modalities to the modalities; before it, that is an option, and it warns without one
    with mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext():
        mdata = mudata.MuData({"rna": rna, "prot": AnnData(counts, obs=rna.obs.copy(), var=var)})
    mdata.obs = rna.obs.copy()
    return mdata
