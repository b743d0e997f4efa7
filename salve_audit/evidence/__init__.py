"""What the network depends on in the image: regions and global factors are removed, and predictions measured again."""
