"""Chat requests at Anthropic: OpenAI's shape is translated to the Messages API, and the response back.

`request` translates the fields, with `messages`, `schemas`, `images` and `thinking` for its parts. `response` reads a
whole message, and `stream` its events.
"""
