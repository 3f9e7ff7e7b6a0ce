"""The rendered world: individuals in three dimensions, seen from any side, on painted grounds."""
