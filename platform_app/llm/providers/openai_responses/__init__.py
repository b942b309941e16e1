"""OpenAI's Responses format (https://platform.openai.com/docs/api-reference/responses).

`request_fields.py` decides which request fields may pass.
"""
