"""Scripts that make models and measurements; not part of the package."""
