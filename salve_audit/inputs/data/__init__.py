"""Labelled images of every kind to an ImageSet: folders, tables, archives, arrays."""
