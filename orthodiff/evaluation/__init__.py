"""How good pictures are: subject and control evaluation, image grids, metrics."""
