"""Edits beyond one class at one strength: across classes, enhanced, combined and undone.

`sweeps` and `enhancement` follow §2.3 and §3.5, `composition` §5.4, `recovery` and `restoring` §5.5.
"""
