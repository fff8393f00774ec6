"""Hearts after myocardial infarction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._published import load_published

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    from anndata import AnnData

_VERSION = "c1f6034b-7973-45e1-85e7-16933d0550bc"
_SHAPE = (191_795, 28_975)
_COLUMNS = {"patient": "sample", "disease": "patient_group", "donor": "donor_id"}


def kuppe22(
    *,
    n_cells: int | None = None,
    cache_dir: str | PathLike[str] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Load single nuclei of hearts after myocardial infarction :cite:p:`Kuppe2022`, downloaded from CELLxGENE Discover.

    29 samples of three groups: fibrotic, ischaemic and myogenic. A sample is what is called a patient here, as some
    donors gave several, of different zones of the heart; pass ``donor_key="donor"`` to keep donors together.
    The file is downloaded and kept as :func:`gml.datasets.cellxgene` says. Its hash is not known beforehand: 191,795
    cells × 28,975 genes and the columns are what is checked.

    Parameters
    ----------
    n_cells
        Read at most so many cells of each patient, drawn at random; `None` reads all of them.
    cache_dir
        Where files are kept, see :func:`gml.datasets.cellxgene`.
    rng
        Seed, or a generator from which one is drawn, for `n_cells`.

    Returns
    -------
    Cells × genes, counts, as from :func:`gml.datasets.cellxgene`, with

    `.obs['patient']`, `.obs['disease']`, `.obs['donor']` : categorical
        The columns `sample`, `patient_group` and `donor_id` of the file; the disease by its own ontology is
        ``obs["disease_original"]``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or form, or if the file is not what was published.
    OSError
        If the file is not there and cannot be downloaded.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.kuppe22(n_cells=500)  # doctest: +SKIP
    >>> adata.obs["patient"].nunique()  # doctest: +SKIP
    29
    """
    return load_published(_VERSION, columns=_COLUMNS, shape=_SHAPE, n_cells=n_cells, cache_dir=cache_dir, rng=rng)
