"""The web page: teach a model a subject from a few photos, then make pictures with it."""
