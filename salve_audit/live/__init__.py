"""Live models: a `torch.nn.Module` in memory, with a Dataset, a DataLoader or arrays, audited, explained and edited.

`module` copies a network, `network` makes it a `Classifier`, `samples` reads data of any kind, `images` makes it an
`ImageSet`; `audit_model`, `heat_maps`, `explanation` and `edited` are what the package at the top offers. A given model
is never changed: everything works on a copy, and random states are put back (`undisturbed`).

Importing the package is light.
"""
