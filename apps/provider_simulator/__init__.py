"""An upstream with scripted faults, over real sockets, that speaks OpenAI's, Azure OpenAI's and Anthropic's formats.

For tests, demonstrations and benchmarks. It knows nothing of the gateway.
"""
