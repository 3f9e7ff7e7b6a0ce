"""Readers of data sets: one layout of folders, one file."""
