"""The public models: which routes serve them, what is known about them, and how a call reaches a provider.

    config file -> builder.py -> ModelRegistry (registry.py) -> ServedModel -> Upstream -> ProviderRoute

A Route (`route.py`) is one entry of a model in the config file: a provider and the model's name there. `builder.py`
turns the config file into served models, at startup and after each reload. `provider_route.py` sends a call along one
route. `metadata.py` is what `/v1/models` shows. `stored_state.py` says which of the responses that a provider stores a
route may create, continue, read and delete.
"""
