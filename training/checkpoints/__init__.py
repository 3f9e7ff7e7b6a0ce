"""Sealed checkpoints, which of them are kept, and the folder of a run."""
