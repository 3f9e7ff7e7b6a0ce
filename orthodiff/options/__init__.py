"""Options as pydantic models: flags, YAML and forms derive from their fields."""
