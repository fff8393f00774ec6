"""Cells of the human breast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._published import load_published

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    from anndata import AnnData

_VERSION = "b8b5be07-061b-4390-af0a-f9ced877a068"
_SHAPE = (714_331, 33_145)
_COLUMNS = {"patient": "donor_id", "disease": "reported_diseases"}


def kumar23(
    *,
    n_cells: int | None = None,
    cache_dir: str | PathLike[str] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Load cells of the adult human breast :cite:p:`Kumar2023`, downloaded from CELLxGENE Discover.

    126 donors by the diseases that they reported. With `n_cells`, the cells fit into the memory of a laptop.
    The file is downloaded and kept as :func:`gml.datasets.cellxgene` says. Its hash is not known beforehand: 714,331
    cells × 33,145 genes and the columns are what is checked.

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

    `.obs['patient']`, `.obs['disease']` : categorical
        The columns `donor_id` and `reported_diseases` of the file; the disease by its own ontology is
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
    >>> adata = gml.datasets.kumar23(n_cells=500)  # doctest: +SKIP
    >>> adata.obs["patient"].nunique()  # doctest: +SKIP
    126
    """
    return load_published(_VERSION, columns=_COLUMNS, shape=_SHAPE, n_cells=n_cells, cache_dir=cache_dir, rng=rng)
