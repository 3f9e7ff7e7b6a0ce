"""Training of adapters: `python -m training dreambooth --help`."""
