"""Classifier + ImageSet -> Activations, by one backbone pass or from the cache."""
