"""`flowbiz-platform smoke`: check a running gateway from outside, as its users see it.

Each check sends requests to one gateway and compares the response with what a healthy gateway sends::

    command.py   options -> run every check before one deadline -> lines or JSON -> exit code
    session.py   what the checks share: HTTP client, official OpenAI client, the first chat response
    addresses.py the URLs of a run, and the proxy to each
    checks.py    the list of checks, in order
    health.py    liveness, readiness, commit, credentials     (cost nothing)
    models.py    chat, limit headers, stream, OpenAI client, embeddings
    records.py   metrics, access decision, usage record       (written by the checks above)
    traces.py    the trace of the chat request, in the backend or as counted by the exporter
    result.py    what a check reports: passed, failed (expected, received, remedy) or skipped (why)
"""
