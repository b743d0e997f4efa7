"""The bank of all global factors, by name, in the order of audit.json.

A factor is one record in the module of its family: adding one there is all that is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from salve_audit.evidence.factors import blur, border, colour, compression, mean_field, noise, place, spectrum
from salve_audit.evidence.factors.record import Factor

FAMILIES = (place, border, colour, mean_field, spectrum, noise, blur, compression)
FACTORS: Mapping[str, Factor] = MappingProxyType(
    {factor.name: factor for family in FAMILIES for factor in family.FACTORS}
)
KINDS = tuple(dict.fromkeys(factor.kind for factor in FACTORS.values()))
