"""Datasets of CELLxGENE Discover: any by its id, and public cohorts by their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml._anndata import SOURCE
from gml._base import check_int, check_seed, check_str

from ._cache import fetch, remember
from ._h5ad import read_cohort

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    import numpy as np
    from anndata import AnnData

BASE_URL = "https://datasets.cellxgene.cziscience.com"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One file of CELLxGENE, and what is known of it."""

    version: str  # the id of the version of the dataset
    columns: Mapping[str, str]  # columns of the file, by the names that they get
    shape: tuple[int, int] | None = None  # cells × genes
    sha256: str | None = None


COHORTS = {
    "kumar23": Published(
        version="b8b5be07-061b-4390-af0a-f9ced877a068",
        columns={"patient": "donor_id", "disease": "reported_diseases"},
        shape=(714_331, 33_145),
    ),
    "kuppe22": Published(
        version="c1f6034b-7973-45e1-85e7-16933d0550bc",
        columns={"patient": "sample", "disease": "patient_group", "donor": "donor_id"},
        shape=(191_795, 28_975),
    ),
}


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

    The file is downloaded when it is first asked for, with a progress bar; a download that breaks off starts anew with
    the next call. On a machine without internet, the error says where to put the file by hand.
    Versions never change, so the SHA-256 of the first use is written beside the file, and every later use is checked
    against it. What has a wrong hash is not used: a download is deleted, a file that was there is left alone.

    Of the two matrices in such files the counts are read, to be normalised as any others; the normalised one is left
    out, and all else is kept.

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
        If CELLxGENE cannot be reached, the connection breaks, or the folder is full or cannot be written to.

    Examples
    --------
    >>> import gml
    >>> kidney = "1c360b0b-eb2f-45a3-aba9-056026b39fa5"
    >>> adata = gml.datasets.cellxgene(kidney, n_cells=500)  # doctest: +SKIP
    """
    columns = {"patient": patient_key, "disease": disease_key}
    published = Published(version=dataset_version_id, columns=columns, sha256=sha256)
    return _load(published, n_cells=n_cells, cache_dir=cache_dir, rng=rng)


def kumar23(
    *,
    n_cells: int | None = None,
    cache_dir: str | PathLike[str] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Load cells of the adult human breast :cite:p:`Kumar2023`, downloaded from CELLxGENE Discover.

    126 donors by the diseases that they reported. With `n_cells`, the cells fit into the memory of a laptop.
    What is checked are 714,331 cells × 33,145 genes and the columns, as the hash is not known beforehand.

    Parameters
    ----------
    n_cells, cache_dir, rng
        As in :func:`gml.datasets.cellxgene`.

    Returns
    -------
    Cells × genes, counts, read and kept as :func:`gml.datasets.cellxgene` does, with the columns `donor_id` and
    `reported_diseases` of the file as `.obs['patient']` and `.obs['disease']`, categorical; the disease by the ontology
    of the file is ``obs["disease_original"]``.

    Raises
    ------
    TypeError, ValueError, OSError
        As :func:`gml.datasets.cellxgene`, or if the file is not what was published.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.kumar23(n_cells=500)  # doctest: +SKIP
    >>> adata.obs["patient"].nunique()  # doctest: +SKIP
    126
    """
    return _load(COHORTS["kumar23"], n_cells=n_cells, cache_dir=cache_dir, rng=rng)


def kuppe22(
    *,
    n_cells: int | None = None,
    cache_dir: str | PathLike[str] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Load single nuclei of hearts after myocardial infarction :cite:p:`Kuppe2022`, downloaded from CELLxGENE Discover.

    29 samples of three groups: fibrotic, ischaemic and myogenic. A sample is what is called a patient here, as some
    donors gave several, of different zones of the heart; pass ``donor_key="donor"`` to keep donors together.
    What is checked are 191,795 cells × 28,975 genes and the columns, as the hash is not known beforehand.

    Parameters
    ----------
    n_cells, cache_dir, rng
        As in :func:`gml.datasets.cellxgene`.

    Returns
    -------
    Cells × genes, counts, read and kept as :func:`gml.datasets.cellxgene` does, with the columns `sample`,
    `patient_group` and `donor_id` of the file as `.obs['patient']`, `.obs['disease']` and `.obs['donor']`, categorical;
    the disease by the ontology of the file is ``obs["disease_original"]``.

    Raises
    ------
    TypeError, ValueError, OSError
        As :func:`gml.datasets.cellxgene`, or if the file is not what was published.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.kuppe22(n_cells=500)  # doctest: +SKIP
    >>> adata.obs["patient"].nunique()  # doctest: +SKIP
    29
    """
    return _load(COHORTS["kuppe22"], n_cells=n_cells, cache_dir=cache_dir, rng=rng)


def _load(
    published: Published,
    *,
    n_cells: int | None,
    cache_dir: str | PathLike[str] | None,
    rng: int | np.random.Generator | None,
) -> AnnData:
    """Cells × genes of one file, checked against what is known of it."""
    version, columns = check_str(published.version, name="dataset_version_id").lower(), published.columns
    if not _UUID.fullmatch(version):
        msg = (
            "`dataset_version_id` must look like 'c1f6034b-7973-45e1-85e7-16933d0550bc', the name of the file in the "
            f"link to its .h5ad, without the suffix; got {published.version!r}."
        )
        raise ValueError(msg)
    named = [check_str(column, name=f"{name}_key") for name, column in columns.items()]
    if len(set(named)) < len(named):
        msg = f"{' and '.join(columns)} must come from different columns, got {' and '.join(named)}."
        raise ValueError(msg)
    if n_cells is not None:
        n_cells = check_int(n_cells, name="n_cells")
    seed, url = check_seed(rng), f"{BASE_URL}/{version}.h5ad"
    path, sha256 = fetch(url, sha256=published.sha256, cache_dir=cache_dir)
    adata = read_cohort(path, columns=columns, shape=published.shape, n_cells=n_cells, seed=seed)
    remember(path, sha256)
    citation = str(adata.uns.get("citation", ""))
    adata.uns[SOURCE] = {"dataset_version_id": version, "url": url, "sha256": sha256, "citation": citation}
    return adata
