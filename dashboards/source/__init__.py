"""The dashboards as code. `make dashboards` writes the JSON files from it; a test compares both.

overview.py, providers.py, keys_limits.py, runtime.py   one dashboard each: rows of panels, each with its queries
queries.py      PromQL: selectors with the dashboard's variables, rates, quantiles
lines.py        queries whose lines are named by their labels
panels.py       panels: a graph, a number, a table; each has a unit, a description and its runbooks
records.py      panels over the records in PostgreSQL
frame.py        what all dashboards share: variables, annotations, links, the ids of the panels
"""
