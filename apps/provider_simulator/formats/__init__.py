"""The simulator's wire formats.

wire.py                        the interface of a wire format: its key header, its errors, its endless bodies
openai_wire.py, azure_wire.py, anthropic_wire.py   one implementation each
openai_chat.py, anthropic_responses.py        successful responses and streams
responses/                     OpenAI's Responses API
anthropic_rules.py             requests that Anthropic refuses although every field has its documented type
"""
