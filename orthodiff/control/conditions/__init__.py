"""Kinds of control images: edges, scribbles, segmentation, depth, landmarks. One file each."""
