"""Matching of the data's classes to the model's outputs."""
