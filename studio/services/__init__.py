"""What the page asks for work: sampling, photos, control images, jobs."""
