"""Images made on the page: a process of its own that keeps the base model loaded."""
