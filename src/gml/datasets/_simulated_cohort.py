"""Counts with a planted truth: each disease moves a few genes in one cell type, each patient moves all others."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from gml._base import check_choice, check_float, check_int, check_rng

from ._names import cell_names, labelled, numbered, padded
from ._proteins import with_proteins

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

_AFFECTED = 0  # the cell type that the diseases change
_PROPORTIONS = 30.0  # Dirichlet parameter of every cell type: proportions of six types are 0.17 ± 0.03
_LOG_MEAN_SD = 0.8  # spread of mean expression over genes, around one count per cell
# disease genes have moderate means: a change is neither lost among zeros nor does it swamp the library
_LOG_MEAN_OF_DISEASE_GENES = (0.0, math.log(4.0))
_MARKERS = 0.1  # fraction of the other genes that mark a cell type
_MARKER_SHIFT = 2.0
_PROGRAMME_SHARE = 0.8  # part of the variance between donors that lies along the shared programmes
_LIBRARY_SD = 0.3
_DISPERSION = 0.2


@overload
def simulated_cohort(
    *,
    n_patients: int = ...,
    n_cells: int = ...,
    n_genes: int = ...,
    n_diseases: int = ...,
    effect: float = ...,
    n_disease_genes: int = ...,
    n_cell_types: int = ...,
    patient_effect: float = ...,
    n_programmes: int = ...,
    n_batches: int = ...,
    batch_effect: float = ...,
    paired: bool = ...,
    protein: Literal[False] = ...,
    rng: int | np.random.Generator | None = ...,
) -> AnnData: ...
@overload
def simulated_cohort(
    *,
    n_patients: int = ...,
    n_cells: int = ...,
    n_genes: int = ...,
    n_diseases: int = ...,
    effect: float = ...,
    n_disease_genes: int = ...,
    n_cell_types: int = ...,
    patient_effect: float = ...,
    n_programmes: int = ...,
    n_batches: int = ...,
    batch_effect: float = ...,
    paired: bool = ...,
    protein: Literal[True],
    rng: int | np.random.Generator | None = ...,
) -> MuData: ...
def simulated_cohort(
    *,
    n_patients: int = 24,
    n_cells: int = 300,
    n_genes: int = 500,
    n_diseases: int = 2,
    effect: float = 1.2,
    n_disease_genes: int = 15,
    n_cell_types: int = 6,
    patient_effect: float = 0.5,
    n_programmes: int = 3,
    n_batches: int = 1,
    batch_effect: float = 0.0,
    paired: bool = False,
    protein: bool = False,
    rng: int | np.random.Generator | None = 0,
) -> AnnData | MuData:
    r"""Simulate counts of a cohort in which the genes that make the diseases are known.

    The count of gene :math:`g` in cell :math:`i` of type :math:`t` from patient :math:`p` is negative binomial with

    .. math:: \log \mu_{ig} = \log s_i + b_{tg} + u_{pg} + v_{pg} + \text{effect} \cdot [t = t^*, \; g \in G_{y_p}]

    and variance :math:`\mu + 0.2 \mu^2`, where :math:`s_i` is the size of the cell (log-normal, mean 1),
    :math:`b` the profile of the cell type, :math:`u` the shift of the donor (0 in all disease genes),
    :math:`v` the shift of the batch, :math:`G_y` the genes of disease :math:`y`, and :math:`t^*` the affected type.
    Patients differ in more genes than diseases do, and in all cell types, so that without labels the disease
    is hard to see. Variance does not tell the disease genes from the others, so take all genes rather than the highly
    variable ones. Cell-type proportions vary a little between patients and carry no signal.

    Parameters
    ----------
    n_patients
        At least `n_diseases`; diseases take turns, so their numbers of patients differ by at most one.
    n_cells
        Mean number of cells of a patient; patients have 0.7 to 1.3 times as many, and at least one.
    n_genes
        At least twice the number of disease genes.
    n_diseases
        Number of classes. Each has its own genes, so none of them is healthy.
    effect
        Rise of the log mean of the genes of a disease, from 0 (no signal) to 10.
    n_disease_genes
        Genes of each disease; no two diseases share one.
    n_cell_types
        Number of cell types, of about equal size; the diseases change one of them.
    patient_effect
        Standard deviation of the shifts :math:`u`, from 0 to 5.
    n_programmes
        Number of gene programmes (think of age, stress or sampling time) along which donors differ; four fifths of
        the variance of :math:`u` lie along them, the rest is each donor's own. 0 leaves all to the donor.
    n_batches
        Batches, balanced over diseases; at most as many as the largest disease has patients.
    batch_effect
        Standard deviation of the shifts :math:`v`, from 0 to 5; they hit all genes.
    paired
        Whether each donor gives one sample ("patient") per disease; the samples of a donor share :math:`u`
        and the batch. `n_patients` must then be a multiple of `n_diseases`.
    protein
        Whether 24 surface proteins are measured in the same cells, as in CITE-seq: the result is then a
        :class:`~mudata.MuData` (extra ``muon``) of the modalities ``"rna"``, which is the cohort without proteins, and
        ``"prot"``.
    rng
        Seed or generator.

    Returns
    -------
    Cells × genes:

    `.X` : :class:`scipy.sparse.csr_matrix` (n, n_genes)
        Counts, as float32.
    `.obs['patient']`, `.obs['disease']`, `.obs['cell_type']`, `.obs['donor']`, `.obs['batch']` : categorical
        ``"P00"`` …, ``"disease_1"`` …, ``"type_1"`` …, the patients again or ``"D00"`` … if paired, ``"batch_1"`` ….
    `.var['disease_gene']` : bool
        Whether a disease changes the gene.
    `.var['disease']` : str
        Which disease does; ``""`` if none.
    `.uns['simulation']` : dict
        All arguments but `rng`, and `affected_cell_type`.
    `.obs_names`, `.var_names`
        ``"P00_c0000"`` …; ``"gene_000"`` ….

    With `protein` a MuData with the same ``obs``, the ``"rna"`` above, and ``"prot"``: counts of the proteins
    ``"protein_00"`` …, as float32, shape (n, 24), dense, with ``var["disease_protein"]`` and ``var["disease"]``. Their
    log mean is that of a gene plus a background of 1 in all cells; each disease raises two proteins, in the affected
    type, by `effect`.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type or out of range, if there are too few genes for the disease genes,
        or if paired samples do not come out even.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=4, n_cells=20, n_genes=100)
    >>> adata.n_vars, adata.obs["patient"].cat.categories.tolist()
    (100, ['P00', 'P01', 'P02', 'P03'])
    >>> adata.var.groupby("disease").size().to_dict()
    {'': 70, 'disease_1': 15, 'disease_2': 15}
    >>> adata.uns["simulation"]["affected_cell_type"]
    'type_1'
    """
    rng = check_rng(rng)
    check_choice(protein, name="protein", choices=(True, False))
    design = _Design(
        n_patients=n_patients,
        n_cells=n_cells,
        n_genes=n_genes,
        n_diseases=n_diseases,
        effect=effect,
        n_disease_genes=n_disease_genes,
        n_cell_types=n_cell_types,
        patient_effect=patient_effect,
        n_programmes=n_programmes,
        n_batches=n_batches,
        batch_effect=batch_effect,
        paired=paired,
    )
    return _simulate(design, rng, protein=protein)


def _simulate(design: _Design, rng: np.random.Generator, *, protein: bool) -> AnnData | MuData:
    """The cells, and their proteins if these are measured, too."""
    patients = _patients(design)
    disease_of_gene = _plant(design, rng)
    cell_types = _cell_types(design, rng)
    counts = _counts(design, patients=patients, disease_of_gene=disease_of_gene, cell_types=cell_types, rng=rng)

    types = numbered("type_", design.n_cell_types)
    n_cells_of = [len(codes) for codes in cell_types]
    obs = patients.loc[np.repeat(np.arange(design.n_patients), n_cells_of)]
    obs = obs.assign(cell_type=labelled(np.concatenate(cell_types), types))
    obs.index = pd.Index(cell_names(patients["patient"].tolist(), n_cells_of))
    diseases = np.array([*patients["disease"].cat.categories, ""], dtype=object)  # the last one is disease -1
    var = pd.DataFrame(
        {"disease_gene": disease_of_gene >= 0, "disease": diseases[disease_of_gene]},
        index=padded("gene_", design.n_genes, width=3),
    )
    rna = AnnData(
        counts, obs=obs, var=var, uns={"simulation": asdict(design) | {"affected_cell_type": types[_AFFECTED]}}
    )
    if not protein:
        return rna
    effects = {"effect": design.effect, "patient_effect": design.patient_effect}
    return with_proteins(rna, **effects, affected_type=types[_AFFECTED], rng=rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """The arguments of :func:`simulated_cohort`, checked."""

    n_patients: int
    n_cells: int
    n_genes: int
    n_diseases: int
    effect: float
    n_disease_genes: int
    n_cell_types: int
    patient_effect: float
    n_programmes: int
    n_batches: int
    batch_effect: float
    paired: bool

    def __post_init__(self) -> None:
        for name in ("n_diseases", "n_cells", "n_genes", "n_disease_genes", "n_cell_types"):
            check_int(getattr(self, name), name=name)
        check_int(self.n_patients, name="n_patients", low=self.n_diseases)
        check_int(self.n_programmes, name="n_programmes", low=0)
        check_int(self.n_batches, name="n_batches", high=math.ceil(self.n_patients / self.n_diseases))
        # beyond these, means overflow
        for name, high in (("effect", 10.0), ("patient_effect", 5.0), ("batch_effect", 5.0)):
            check_float(getattr(self, name), name=name, high=high)
        check_choice(self.paired, name="paired", choices=(True, False))
        n_planted = self.n_diseases * self.n_disease_genes
        if 2 * n_planted > self.n_genes:
            msg = (
                f"`n_diseases` × `n_disease_genes` = {self.n_diseases} × {self.n_disease_genes} = {n_planted} must be "
                f"at most half of `n_genes` = {self.n_genes}; pass fewer disease genes or `n_genes={2 * n_planted}`."
            )
            raise ValueError(msg)
        if self.paired and self.n_patients % self.n_diseases:
            numbers = f"{self.n_patients} patients and {self.n_diseases} diseases"
            msg = f"`n_patients` must be a multiple of `n_diseases` if `paired`, got {numbers}."
            raise ValueError(msg)


def _patients(design: _Design) -> pd.DataFrame:
    """One row per patient; diseases take turns, batches change after each round of diseases."""
    rounds, disease = np.divmod(np.arange(design.n_patients), design.n_diseases)
    patient = pd.Categorical(padded("P", design.n_patients, width=2))
    donor = labelled(rounds, padded("D", rounds[-1] + 1, width=2)) if design.paired else patient
    return pd.DataFrame(
        {
            "patient": patient,
            "disease": labelled(disease, numbered("disease_", design.n_diseases)),
            "donor": donor,
            "batch": labelled(rounds % design.n_batches, numbered("batch_", design.n_batches)),
        }
    )


def _plant(design: _Design, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which disease each gene belongs to, shape (g,); -1 if none."""
    planted = np.full(design.n_genes, -1)
    genes = rng.choice(design.n_genes, (design.n_diseases, design.n_disease_genes), replace=False)
    planted[genes] = np.arange(design.n_diseases)[:, None]
    return planted


def _cell_types(design: _Design, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Draw the type of every cell, one array per patient."""
    fewest = max(1, round(0.7 * design.n_cells))
    n_cells = rng.integers(fewest, 2 * design.n_cells - fewest, design.n_patients, endpoint=True)
    proportions = rng.dirichlet(np.full(design.n_cell_types, _PROPORTIONS), design.n_patients)
    return [rng.choice(design.n_cell_types, n, p=p) for n, p in zip(n_cells, proportions, strict=True)]


def _profiles(design: _Design, disease_of_gene: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
    """Log mean of genes in cell types, shape (t, g); disease genes mark no type."""
    log_mean = rng.normal(0.0, _LOG_MEAN_SD, design.n_genes)
    planted, others = np.flatnonzero(disease_of_gene >= 0), np.flatnonzero(disease_of_gene < 0)
    log_mean[planted] = rng.uniform(*_LOG_MEAN_OF_DISEASE_GENES, len(planted))
    profiles = np.tile(log_mean, (design.n_cell_types, 1))
    for profile in profiles:
        profile[rng.choice(others, max(1, int(_MARKERS * len(others))), replace=False)] += _MARKER_SHIFT
    return profiles


def _counts(
    design: _Design,
    *,
    patients: pd.DataFrame,
    disease_of_gene: NDArray[np.intp],
    cell_types: list[NDArray[np.intp]],
    rng: np.random.Generator,
) -> sp.csr_matrix[np.float32]:
    """Draw the counts of all cells, shape (n, g); dense for one patient at a time."""
    profiles = _profiles(design, disease_of_gene, rng)  # (t, g)
    donors, batches = (patients[column].cat.codes.to_numpy() for column in ("donor", "batch"))
    n_donors = len(patients["donor"].cat.categories)
    of_donor = design.patient_effect * _donor_shifts(n_donors, design, rng)
    of_donor[:, disease_of_gene >= 0] = 0.0
    of_batch = rng.normal(0.0, design.batch_effect, (design.n_batches, design.n_genes))
    shifts = of_donor[donors] + of_batch[batches]  # (p, g)

    blocks = []
    for disease, shift, types in zip(patients["disease"].cat.codes, shifts, cell_types, strict=True):
        log_mean = profiles + shift  # (t, g)
        log_mean[_AFFECTED, disease_of_gene == disease] += design.effect
        blocks.append(_negative_binomial(np.exp(log_mean)[types], rng))
    counts: sp.csr_matrix[np.float32] = sp.vstack(blocks, format="csr")
    return counts


def _donor_shifts(n_donors: int, design: _Design, rng: np.random.Generator) -> NDArray[np.float64]:
    """Shifts of unit variance, shape (n_donors, g): partly along programmes that all donors share."""
    shared = _PROGRAMME_SHARE if design.n_programmes else 0.0
    scores = rng.standard_normal((n_donors, design.n_programmes))
    programmes = rng.standard_normal((design.n_programmes, design.n_genes)) / np.sqrt(max(1, design.n_programmes))
    own = rng.standard_normal((n_donors, design.n_genes))
    shifts: NDArray[np.float64] = np.sqrt(shared) * scores @ programmes + np.sqrt(1 - shared) * own
    return shifts


def _negative_binomial(mean: NDArray[np.float64], rng: np.random.Generator) -> sp.csr_matrix[np.float32]:
    """Draw counts around `mean` times the size of each cell, shape (n, g): Poisson of a gamma."""
    size = rng.lognormal(-(_LIBRARY_SD**2) / 2, _LIBRARY_SD, (len(mean), 1))
    rate = rng.gamma(1 / _DISPERSION, _DISPERSION, mean.shape) * size * mean
    return sp.csr_matrix(rng.poisson(rate).astype(np.float32))
