"""The names of the autoencoder variants, as in ``--sae``, without what trains them.

Configuration and command line read them here; `variants` gives each its record.
"""

from __future__ import annotations

LINEAR_L1 = "linear-l1"
RELU_L1 = "relu-l1"
TOPK = "topk"
SIGNED_TOPK = "signed-topk"
BATCHTOPK = "batchtopk"
MATRYOSHKA = "matryoshka"
GATED = "gated"
JUMPRELU = "jumprelu"
SUPERVISED = "supervised"
PAPER = "paper"

AUTO = "auto"  # several variants are trained and the best is taken
VARIANT_NAMES = (
    LINEAR_L1,
    RELU_L1,
    TOPK,
    SIGNED_TOPK,
    BATCHTOPK,
    MATRYOSHKA,
    GATED,
    JUMPRELU,
    SUPERVISED,
    PAPER,
)
