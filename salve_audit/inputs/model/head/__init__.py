"""Final linear maps of every kind: their place in a network, their inputs and their weights."""
