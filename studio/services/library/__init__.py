"""What can be done with adapters: bring them, look into them, compare and combine them."""
