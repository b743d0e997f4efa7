"""Deep edits: a feature taken out of what the layers before the head write, not out of the head.

**The projection.** A latent with decoder direction d and encoder row e (both in the space of the head's input a) is
removed from a vector by ``P(t) = I − t d eᵀ / (eᵀd)``: at t = 1 the encoder reads nothing any more (``eᵀ P(1) = 0``),
and all that changes lies along d. Under ``eᵀd <= 0.05 ‖e‖ ‖d‖`` the two hardly belong together and the projection
would blow up noise: refused. For latents with an activation function, e is the row of the pre-activation.

**Where it acts.** Layers write into a stream that ends at the head: the residual sum. A writer is an affine layer
whose output is added to it, ``out = s ⊙ (W h) + c``: a convolution with its BatchNorm folded (``s = γ/σ``, ``c = β −
sμ + s·bias``), a linear layer with or without a learned factor per channel (LayerScale). Its output is projected by
other numbers in the same tensors, names and shapes kept:

    W' = W − t (d/s) ((e ⊙ s)ᵀ W) / (eᵀd)         c' = c − t d (eᵀc) / (eᵀd)

with c' carried by the BatchNorm's β, else by the layer's own bias (divided by s). Running statistics stay. Channels
with s = 0 cannot be written and keep what they have.

**From a to the stream.** ResNet: a is the mean over positions of the last block's output, so channels coincide, but
that output went through a ReLU after the sum. Transformer, ConvNeXt: a LayerNorm lies between, ``a = ΓC x/σ + β`` (C
takes the mean over channels out, Γ = diag γ). With ``d_x = CΓ⁻¹d`` and ``e_x = CΓe`` the projection of x is that of a
− β, exact but for σ, which depends on x and changes too.

**What is edited.** ``deep-last-block``: the writers of the last block alone. ``deep-all-writers``: every writer to
the stream that ends in the last block: all blocks of a ResNet's or ConvNeXt's last stage with the convolution that
opens it (shortcut or downsampling), the attention and MLP outputs of all blocks of a transformer.

**What is exact.** Every writer's output is projected exactly: proven against hooks on the unedited network. Exact on
the sum where all that enters it is written by edited layers in the same block (a last stage of one block). All else
is approximate, and is measured by the share of the feature that is left in a at t = 1 and by the distance of a from P
a:

- ``deep-last-block`` leaves what enters the block from below. How much of the feature that carries depends on the
  network: all of it in a ResNet-18 (the edit does nothing there), 40 % in a ResNet-20, 60 % in a ViT, all on CIFAR-10.
  Larger t makes up for the rest.
- ``deep-all-writers`` in a ResNet of several blocks projects before each ReLU, which turns some of it back; later
  blocks read another input and write something else.
- A transformer's embeddings and, in a ResNet with parameter-free shortcuts (option A), the stage before are left:
  reported in `Scope.left`.
- The projection removes eᵀa, not the code eᵀa + b: at t = 1 the code of every picture becomes b. Pictures of other
  classes are moved by their own eᵀa.

So accuracy need not fall steadily in t, and strengths are searched by runs of the network.
"""
