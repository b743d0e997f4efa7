"""Seeing features: where in a picture a latent looks, and pictures made for it."""
