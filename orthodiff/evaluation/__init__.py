"""How good images are: subject and control evaluation, image grids, metrics."""
