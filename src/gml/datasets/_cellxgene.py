"""Any dataset of CELLxGENE Discover, by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._published import load_published

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    from anndata import AnnData


def cellxgene(
    dataset_version_id: str,
    *,
    patient_key: str = "donor_id",
    disease_key: str = "disease",
    n_cells: int | None = None,
    sha256: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Download a dataset of CELLxGENE Discover, and name its columns as gml expects them.

    The file is downloaded when it is first asked for, with a progress bar; a download that was broken off goes on where
    it stopped, with the next call. On a machine without internet, the error says where to put the file by hand.
    Versions never change, so the SHA-256 of the first use is written beside the file, and every later use is checked
    against it. What has a wrong hash is not used: a download is deleted, a file that was there is left alone.

    Of the two matrices in such files the counts are read; the normalised one is left out, and all else is kept.

    Parameters
    ----------
    dataset_version_id
        The id in the link that CELLxGENE offers for the download, such as
        ``"c1f6034b-7973-45e1-85e7-16933d0550bc"``. Datasets and collections have other ids.
    patient_key
        Column of the file that becomes ``obs["patient"]``. Take the sample if donors gave several that differ.
    disease_key
        Column of the file that becomes ``obs["disease"]``.
    n_cells
        Read at most so many cells of each patient, drawn at random as :func:`gml.pp.equalize_cells` does. `None` reads
        all, which takes about 8 bytes of memory per count that is not zero.
    sha256
        Hash of the file, if you know it.
    cache_dir
        Where files are kept. `None` takes the environment variable ``GML_CACHE_DIR``, or else the folder for caches of
        the operating system.
    rng
        Seed, or a generator from which one is drawn, for `n_cells`.

    Returns
    -------
    Cells × genes, as they are in the file but for:

    `.X`
        Counts: the ``raw.X`` of the file, or its ``X`` if it has no other matrix.
    `.obs['patient']`, `.obs['disease']` : categorical
        The columns `patient_key` and `disease_key`. Others that had these names are ``patient_original`` and
        ``disease_original`` now.
    `.var_names`
        Symbols of the genes; those that several genes share are followed by the id.
    `.var['gene_id']`
        Ensembl ids.
    `.uns['gml_source']` : dict
        `dataset_version_id`, `url`, `sha256` and, if the file has one, `citation`.

    Raises
    ------
    KeyError
        If the file has no such column.
    TypeError, ValueError
        If an argument is of the wrong type or form, CELLxGENE has no such version, the hash is wrong, or the file is
        no h5ad file.
    OSError
        If CELLxGENE cannot be reached, the connection keeps breaking, or the folder is full or cannot be written to.

    Examples
    --------
    >>> import gml
    >>> kidney = "1c360b0b-eb2f-45a3-aba9-056026b39fa5"
    >>> adata = gml.datasets.cellxgene(kidney, n_cells=500)  # doctest: +SKIP

    From here on as with any counts:

    >>> import scanpy as sc
    >>> sc.pp.normalize_total(adata)  # doctest: +SKIP
    >>> sc.pp.log1p(adata)  # doctest: +SKIP
    >>> sc.pp.pca(adata)  # doctest: +SKIP
    >>> gml.tl.learn_metric(adata)  # doctest: +SKIP
    """
    return load_published(
        dataset_version_id,
        columns={"patient": patient_key, "disease": disease_key},
        sha256=sha256,
        n_cells=n_cells,
        cache_dir=cache_dir,
        rng=rng,
    )
