"""A simulated provider over real sockets, with scripted faults, for tests, demonstrations and benchmarks.

It imports nothing from the gateway. One request passes through::

    server.py      receives it, records it (record.py) and selects a fault by model name or header
    endpoints.py   the path selects a wire format and an operation
    model/         what the simulated model returns: text, tool calls, embeddings
    formats/       the response and the errors in OpenAI's, Azure's or Anthropic's format, or as Responses
    faults/        how each fault misbehaves on the connection
    main.py runs it as a process; admin.py shows over HTTP what it received
"""
