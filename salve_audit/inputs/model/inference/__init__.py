"""Architecture from weights: tensor names and shapes matched against an index of all that can be built.

The line: `signature` (what is compared) -> `measure` (one architecture, on the meta device) -> `build` (all of them,
once) -> `index` (the shipped file) -> `match` (a checkpoint against it).
"""
