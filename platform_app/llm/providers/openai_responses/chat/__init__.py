"""Chat requests at a provider with the Responses API: translated there and back.

`request` translates the fields, with `items` for messages and `tools` for tools. `response` reads a whole response, and
`stream` its events.
"""
