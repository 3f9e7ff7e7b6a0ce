"""What a run needs, gathered and checked, and how the device is set up."""
