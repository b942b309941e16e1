"""OpenAI's Responses API, which most agents speak.

routes.py        POST /v1/responses
requests.py      the body, checked as far as the gateway must understand it
contract.py      writes a chat completion as a Response object, or passes a provider's Response on
native.py        changes the few members of a provider's Response that are the gateway's: model, ids
json_members.py  sets texts of members of a JSON object; every other byte stays
openapi.py       the routes in the OpenAPI document
stored/          ids of stored responses, and the routes that read and delete them
"""
