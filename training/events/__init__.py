"""What a run says of itself: events, signals, failures and who listens."""
