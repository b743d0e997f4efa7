"""Heat maps of where in an image a latent looks, and feature visualisations."""
