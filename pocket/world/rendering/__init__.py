"""Rendering: cameras, what a renderer gives of a view, and views kept by content."""
