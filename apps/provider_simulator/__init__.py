"""An OpenAI-compatible upstream with scripted faults, over real sockets.

For tests, demonstrations and benchmarks. It knows nothing of the gateway.
"""
