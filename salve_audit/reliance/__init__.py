"""Edit sensitivity at the head: features, thresholds and statistics of each class, from cached activations."""
