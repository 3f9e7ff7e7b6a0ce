"""What people bring: decoded apart, re-encoded without hidden data, kept per user and by quota."""
