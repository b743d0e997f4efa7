"""Deep edits: a feature removed from what the layers before the head write, not out of the head (docs/method.md §8.1).

The oblique projection ``P(t) = I − t d eᵀ / (eᵀd)`` takes a latent with decoder direction d and encoder row e out of
the output of every writer: an affine layer whose output is added to the residual sum that ends at the head. Names,
shapes and running statistics of the checkpoint stay. ``deep-last-block`` edits the writers of the last block,
``deep-all-writers`` all writers of the sum that ends in it.

Each writer's output is projected exactly, verified against hooks on the unedited network. The head's input is not:

- ``deep-last-block`` leaves what enters the block from below: all of the feature in a ResNet-18 (the edit does nothing
  there), 40 % in a ResNet-20, 60 % in a ViT, all on CIFAR-10. A larger t makes up for the rest.
- ``deep-all-writers`` in a ResNet of several blocks projects before each ReLU, which turns some of it back; later
  blocks read another input and write something else.
- A transformer's embeddings and, in a ResNet with parameter-free shortcuts (option A), the stage before are left:
  reported in `Scope.left`.
- The projection removes eᵀa, not the code eᵀa + b: at t = 1 the code of every image becomes b. Images of other
  classes are moved by their own eᵀa.

So accuracy need not fall steadily in t, and strengths are searched by runs of the network.
"""
