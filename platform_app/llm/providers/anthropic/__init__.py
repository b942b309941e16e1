"""Anthropic's Messages API.

    adapter.py        sends a call to the provider and selects the reader of its response
    chat/             translates a chat request to a message, and the response back
    native/           passes a client's Messages request and its response unchanged
    errors.py         turns Anthropic's errors into the gateway's
    capabilities.py   what each model supports
    request_fields.py which fields of a Messages request may pass

In a chat, a field is translated, forwarded, left out because it has no effect, or refused by name. No field that has an
effect is dropped: docs/configuration/wire-formats.md has the table.
"""
