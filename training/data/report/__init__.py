"""A report on data before any training: what is there, and what could be better."""
