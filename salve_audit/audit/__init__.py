"""The audit from end to end: what is audited, the line of stages, and the files that it leaves."""
