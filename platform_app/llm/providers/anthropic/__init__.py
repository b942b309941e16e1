"""Anthropic's Messages API behind OpenAI's format, translated both ways.

Request: `request.py` translates the fields, with `messages.py` (turns and blocks), `images.py`, `schemas.py` (JSON
Schemas), `thinking.py` (effort and max_tokens), `tool_ids.py` and `capabilities.py` (what each model supports).
Response: `response.py` translates a whole message, `stream.py` its events, `errors.py` its errors.

A field is translated, forwarded, left out because it has no effect, or refused by name. No field that has an effect is
dropped: docs/configuration/config-file.md has the table.
"""
