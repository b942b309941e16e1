"""OpenAI's Responses format (https://platform.openai.com/docs/api-reference/responses), for OpenAI, Azure and others.

A Responses request passes unchanged: `native.py` has its response and events, and `native_stream.py` reads them. A chat
is translated: `request.py` translates the fields, with `items.py` (messages) and `tools.py`, and `chat_response.py` and
`chat_stream.py` translate the response back. Both ways share `fields.py` (the parts of a response), `events.py` (errors
and the end of a stream) and `errors.py`. `request_fields.py` decides which request fields may pass.
"""
