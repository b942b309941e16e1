"""JSON as providers and models write it: `lenient_json.py` accepts invalid details, `exact_json.py` keeps the digits of
numbers, `partial_json.py` reads what ends in the middle, and `value_count.py` counts values before a text is parsed.
`content_encoding.py` recognises compressed bodies."""
