"""OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses) of the simulated model.

request.py   strict reading of requests, and the chat that the simulated model sees
response.py  the response and its events
store.py     stored responses, for `previous_response_id`, GET and DELETE
wire.py      errors and framing
"""
