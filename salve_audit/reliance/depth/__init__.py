"""What a class depends on in the picture: pieces of evidence taken out of it, and the network asked again."""

from salve_audit.reliance.depth.assess import ClassFinding, ConceptFinding, DepthFindings, assess_depth
from salve_audit.reliance.depth.evidence import Evidence, SearchSettings, find_evidence
from salve_audit.reliance.depth.network import Probe, Seen
from salve_audit.reliance.depth.probing import watch_network

__all__ = [
    "ClassFinding",
    "ConceptFinding",
    "DepthFindings",
    "Evidence",
    "Probe",
    "SearchSettings",
    "Seen",
    "assess_depth",
    "find_evidence",
    "watch_network",
]
