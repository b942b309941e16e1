"""OpenAI's wire format, for OpenAI, Azure OpenAI and compatible servers. Requests and responses pass unchanged.

`adapter.py` and `azure.py` know the URLs and the header of the credential. `format.py` reads responses and events,
`errors.py` is the error table, and `request_fields.py` decides which request fields may pass; `chat_fields.py` lists
those of a chat completion.
"""
