"""What is measured and sampled on the way."""
