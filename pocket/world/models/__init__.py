"""The 3D models: which there are, who made them, and how their files are read."""
