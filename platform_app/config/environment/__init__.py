"""Environment variables beside the fields of `Settings`.

variables.py   former and misspelt names, and those that Kubernetes sets for a Service
values.py      what is the same for every setting: choices in any case, `~` in paths, quotes
problems.py    an invalid setting as a sentence
standard.py    variables that other programs share with the gateway: proxy, CAs, OpenTelemetry
"""
