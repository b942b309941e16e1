"""Mutation tests: put one fault into the code and require that a test fails.

The mental model, file by file:

- `targets.py` names the modules where an unnoticed fault costs money or admits an attacker, and the tests of each.
- `faults/python_faults.py` makes the mutants of a Python module from its syntax tree: one small change each.
- `faults/text_faults.py` makes the mutants of Lua scripts and of PromQL expressions in alert rules and dashboards.
- `faults/named_faults.yaml` lists faults by hand: kinds that a review found uncaught, with the tests that catch each.
- `runs/workshop.py` copies the tree to a temporary directory and applies one mutant at a time there.
- `runs/worker.py` is the process inside that copy; it forks a pytest for each mutant.
- `runs/coverage.py` is the pytest plugin that records which tests execute which lines; a mutant runs only those tests.
- `survivors.yaml` explains each mutant that no test can catch. `report.py` counts and prints.

`make mutation` runs everything; `make mutation ARGS="--module pricing --sample 50"` runs a part of it.
"""
