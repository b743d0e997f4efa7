"""What edits do beyond one class at one strength: enhanced, combined, undone, and across classes."""

from salve_audit.stress.stage import StressInputs, StressOutcome, stress_edits

__all__ = ["StressInputs", "StressOutcome", "stress_edits"]
