"""Scenes: an individual with a look in a place, lit, captioned, and true in every map."""
