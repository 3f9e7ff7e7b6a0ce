"""Images by the thousand: rows in, each image made exactly once, on one machine or on a cluster."""
