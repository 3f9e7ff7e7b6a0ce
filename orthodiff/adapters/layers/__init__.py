"""Frozen layers with an adapter on them, and the solves that they share."""
