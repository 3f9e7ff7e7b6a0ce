"""Publishing a run on the hub."""
