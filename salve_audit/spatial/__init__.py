"""Spatial layers of a network: their layout, their alignment with the image, and the network cut at one of them."""
