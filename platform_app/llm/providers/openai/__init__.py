"""OpenAI's wire format, also as Azure OpenAI and compatible servers speak it."""
