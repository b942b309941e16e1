"""Public models: the catalog, the registry, and the routes that serve each model."""
