"""Permanent edits: a checkpoint written again with another head, in the format it came in, and verified on images.

`plan` says what is asked for, `evidence` what is known from the audit, `apply` turns both into an edited head,
`tensors` takes that apart into the tensors of the file, `write` writes them, `verify` runs the file that was written,
`record` is what the file says of it; `run` does all of it.

Importing the package is light.
"""
