"""Inputs: checkpoint file -> Classifier, images -> ImageSet, file of arrays -> ArraySet."""
