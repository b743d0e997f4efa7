"""What each class leans on: features, thresholds, statistics. Pure math on cached activations."""
