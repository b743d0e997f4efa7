"""Activations -> TrainedSae, a sparse autoencoder of the activations in front of the head.

Read in this order: `models` (what comes out), `parameters` and `losses` (what is trained, with a seed axis in front),
`training` (the loop), `products`, `code_list` and `listed` (what makes it fast), `streaming` (samples that stay in
their file), `consolidation` (duplicates merged), `variants` (which of these make a variant), `canonical` (to unit rows
and the model's units), `metrics`, `tuning` (which sparsity), `stability` (do other seeds find the same), `problem` and
`stage` (all of it together, as `train_sae`), and `files`.
"""
