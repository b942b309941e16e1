"""Alert rules of the gateway, and the program that generates them.

`source/slo.yaml` states each objective once, and `source/rules/` has all other alerts. `python -m alerts.generate`
makes `platform.yml`, which Prometheus loads, and `platform_test.yml`, which promtool runs. Edit the sources, never
the two generated files.
"""
