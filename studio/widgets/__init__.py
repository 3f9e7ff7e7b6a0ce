"""What the tabs are made of."""
