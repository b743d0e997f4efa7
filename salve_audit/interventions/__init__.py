"""Edits of the final linear layer, one file per method, and their comparison at matched suppression."""
