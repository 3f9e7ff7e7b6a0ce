"""Places: the 24 contexts as grounds in perspective."""
