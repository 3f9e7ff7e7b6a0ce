"""The typed API, and the application that it shares with the page."""
