"""Providers: one folder for each wire format, and what all formats share.

A wire format is a folder with `adapter.py`, which implements ModelAdapter, and `errors.py`, its error table. `openai/`
passes requests and responses on unchanged, also for Azure and compatible servers. `openai_responses/` and `anthropic/`
pass requests of the same format on, translate others both ways, and refuse by name what they cannot translate.
`factory.py` creates the adapter of a provider in the config file; a new format adds its case there.

Shared: `error_body.py` reads an error body of any shape, `error_message.py` classifies it by its message if it has no
code, and `content_filter.py` recognises filtered responses. `json_reading.py` parses what a provider sends, and
`model_list.py` its list of models. Translations share `chat_messages.py`, which reads messages, and `field_table.py`,
one table of fields for each format. `tools/` maps ids, names and kinds of tools to those that a provider accepts.
"""
