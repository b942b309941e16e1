"""The simulated model, independent of wire formats.

simulated_model.py  a request's messages -> text, tool calls or a refusal
json_schema.py      a value that conforms to a schema, for structured output and tool calls
prefix_cache.py     a prompt cache like those of providers
script.py           a session of scripted turns, for agents that run tools
embeddings.py       vectors that depend on the text only
"""
