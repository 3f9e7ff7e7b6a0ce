"""Optimizers, learning-rate schedules, averages of weights, and one update."""
