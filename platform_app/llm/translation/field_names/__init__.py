"""Name the client's fields in errors about a translated request.

`origins.py` finds where a value of a translated request came from, `renames.py` has the names of fields that the
translations make themselves, and `client_fields.py` rewrites an error with both. All of it runs for errors alone.
"""
