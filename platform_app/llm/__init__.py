"""Models and their providers: from a public model name to the provider's response.

Two interfaces carry everything (`interfaces.py`). A ModelAdapter speaks one provider's wire format. An Upstream sends a
call along one route of a model, or adds a policy around other upstreams.

    ModelRegistry -> policies -> ProviderRoute -> ModelAdapter -> http -> provider

`models/` builds the registry from the config file, `policies/` decides about retries and fallbacks, `providers/` has a
folder for each wire format, `http/` sends requests, and `usage/` counts and prices tokens. Calls (`requests.py`),
responses (`responses.py`, `chunk_stream.py`) and errors (`errors.py`) are the same for every wire format: inside, all
bodies have OpenAI's shape. `formats.py` names the formats of clients, `field_types.py` the JSON types of their fields,
and `translation/` turns them into that shape and back. `stream_conversion.py` makes a stream of a whole response, and a
whole response of a stream. `finish_reasons.py` and `message_shapes.py` read what chat servers
send in their own ways, and `codecs/` the JSON that providers write.
"""
