"""Translate OpenAI's Responses API from and to chat completions.

    request.py    fields -> chat completion's fields. conversation.py reads items, content.py parts, tools.py tools,
                 namespaces.py tools in namespaces.
    stream.py     chat chunks -> events: ResponseWriter. chat_delta.py reads a delta, output/ has the items.
    response.py   chat completion -> Response object, by the same writer
    envelope.py   the fields of a Response object that repeat the request

The grammar of the events is checked by tests/support/providers/streams/responses_grammar.py.
"""
