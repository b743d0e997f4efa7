"""Activations -> TrainedSae: sparse autoencoders of the activations in front of the head.

Read in this order: `models` (what comes out), `parameters` and `losses` (what is trained, with a seed axis in front),
`variants` (which initialisation, loss and recipe make a variant), `training` (the loop), `metrics`, `tuning` (which
sparsity), `stability` (do other seeds find the same), `files`, and `stage`, which puts them together as `train_sae`.
"""
