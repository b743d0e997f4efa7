"""Checkpoints of every kind to a Classifier: formats, architecture, head, transform."""
