"""Final linear maps of every kind: where they are in a network, how their inputs are read, and their weights."""

from salve_audit.inputs.heads.reader import HeadReader
from salve_audit.inputs.heads.search import find_head

__all__ = ["HeadReader", "find_head"]
