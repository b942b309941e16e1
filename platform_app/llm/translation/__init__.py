"""Translations between the clients' formats and chat completions, the neutral form (docs/adr/0042).

    client's format -> chat_request.py         -> chat completion -> provider's adapter
    client's format <- responses/, messages/ <- chat completion <- provider's adapter

`responses/request.py` and `messages/request.py` read requests; a field that a chat completion cannot express is refused
by name. The rest of these folders writes responses and events. `function_fields.py` checks tools, `attachments.py`
moves images and files of a tool's result, `field_names/` names the client's fields in errors, and `guard.py` contains
errors of the translations' own code. The translations to
and from the providers' formats are in `providers/`. Where client and provider speak the same format, nothing here runs.

What only one format has travels in fields beside OpenAI's: `thinking_blocks` (Anthropic's signed thinking),
`reasoning_items` (OpenAI's reasoning, with its encrypted content), and `cache_control` on parts and tools. `carried.py`
puts one provider's objects into an opaque field of another format. A provider that cannot use them leaves them out or
refuses them.
"""
