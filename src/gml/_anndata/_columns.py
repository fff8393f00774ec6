"""Where an AnnData says what is known of its cells: settings that travel together from the door to the last reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._features import Features, UseRep

PATIENT, DISEASE, CELL_TYPE = "patient", "disease", "cell_type"  # default names


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of ``adata.obs``, and the representation that cells are measured in."""

    patient: str = PATIENT
    disease: str | None = DISEASE
    donor: str | None = None
    batch: str | None = None
    cell_type: str | None = None
    use_rep: UseRep = None
    layer: str | None = None

    def params(self, features: Features) -> dict[str, Any]:
        """As they are stored, with the representation that was taken."""
        keys = {"patient_key": self.patient, "disease_key": self.disease}
        return keys | {"use_rep": features.rep, "layer": features.layer}
