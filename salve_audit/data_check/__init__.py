"""What the images alone give away of their labels, without a model: properties, and images that are there twice."""
