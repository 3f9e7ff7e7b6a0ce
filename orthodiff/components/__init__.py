"""Everything that can be learned for one base model, and how it is kept, loaded and composed."""
