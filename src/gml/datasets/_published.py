"""What the loaders of public cohorts have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gml._anndata import SOURCE
from gml._base import check_int, check_seed

from ._cache import fetch, remember
from ._h5ad import read_cohort

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    import numpy as np
    from anndata import AnnData

BASE_URL = "https://datasets.cellxgene.cziscience.com"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def load_published(
    dataset_version_id: str,
    *,
    columns: Mapping[str, str],
    shape: tuple[int, int] | None = None,
    sha256: str | None = None,
    n_cells: int | None,
    cache_dir: str | PathLike[str] | None,
    rng: int | np.random.Generator | None,
) -> AnnData:
    """Cells × genes of one file of CELLxGENE, checked against what is known of it."""
    if not isinstance(dataset_version_id, str):
        msg = f"`dataset_version_id` must be a string, got {dataset_version_id!r}."
        raise TypeError(msg)
    version = dataset_version_id.lower()
    if not _UUID.fullmatch(version):
        msg = (
            "`dataset_version_id` must look like 'c1f6034b-7973-45e1-85e7-16933d0550bc', the name of the file in the "
            f"link to its .h5ad, without the suffix; got {dataset_version_id!r}."
        )
        raise ValueError(msg)
    if n_cells is not None:
        n_cells = check_int(n_cells, name="n_cells")
    seed = check_seed(rng)
    for name, column in columns.items():
        if not isinstance(column, str):
            msg = f"`{name}_key` must be a string, got {column!r}."
            raise TypeError(msg)
    if len(set(columns.values())) < len(columns):
        msg = f"{' and '.join(columns)} must come from different columns, got {' and '.join(columns.values())}."
        raise ValueError(msg)
    url = f"{BASE_URL}/{version}.h5ad"
    path, found = fetch(url, sha256=sha256, cache_dir=cache_dir)
    adata = read_cohort(path, columns=columns, shape=shape, n_cells=n_cells, seed=seed)
    remember(path, found)
    citation = str(adata.uns.get("citation", ""))
    adata.uns[SOURCE] = {"dataset_version_id": version, "url": url, "sha256": found, "citation": citation}
    return adata
