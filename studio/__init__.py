"""The web page: teach a model a subject from a few photos, then make images with it."""
