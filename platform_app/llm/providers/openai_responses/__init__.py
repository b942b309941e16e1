"""OpenAI's Responses format (https://platform.openai.com/docs/api-reference/responses), for OpenAI, Azure and others.

adapter.py        sends a call to the provider and selects the reader of its response
chat/             translates a chat request to a Responses request, and the response back
native/           passes a client's Responses request and its response unchanged
fields.py         the parts of a response that both read
events.py         the start, the errors and the end of a stream, for both
errors.py         turns errors into the gateway's
reasoning.py      which models get encrypted reasoning
request_fields.py which fields of a Responses request may pass
"""
