"""Global factors: what is no place in the image, one record each, removed from images and inserted into others."""
