"""Two saved audits -> what changed, with statistics: paired over images where both audits saw the same."""

from salve_audit.compare.audits import compare_audits

__all__ = ["compare_audits"]
