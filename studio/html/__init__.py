"""Pieces of HTML."""
