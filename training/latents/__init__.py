"""Latents and prompt embeddings: encoded, cached, drawn into batches."""
