"""Training data: what people have in folders and datasets, read into examples."""
