"""How configuration is read, and how its problems are reported: all at once, by name, with what was expected.

text_file.py      the file's text, or why it cannot be read
yaml_document.py  YAML 1.2 (core schema) -> plain data, with the line of every value
expectations.py   JSON Schema of a value -> "a whole number from 1 to 1000"
types.py          values whose YAML type is not that of their field
explain.py        pydantic's errors -> sentences
checks.py         checks that compare fields, also where other fields are invalid
file_stamp.py     whether a file changed
last_config.py    the content of the config file that was applied last
values.py         values, paths and suggestions in messages; keys are masked
"""
