"""Messages requests as chat completions, and chat completions as Messages responses.

`request.py` reads a request's fields, with `turns.py` (messages), `blocks.py` (content) and `tools.py`. `segments.py`
puts a chat completion's content into blocks, whole (`message.py`) or as events (`events.py`); `ending.py` has its stop
reason and usage.
"""
