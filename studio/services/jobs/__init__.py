"""Trainings as processes of their own, and what their folders say about them."""
