"""The stage at depth: pictures in, reliance of classes and their concepts out; `reliance.depth` does the measuring."""
