"""Adapters as elements of the rotation group: product, inverse, and the way between two."""
