"""`make drill`: break a staging gateway on purpose, and see that the right alert fires and its runbook shows the cause.

stage.py         the stage: gateway, PostgreSQL, Valkey, two providers, an OTLP collector, all started by the drill
traffic.py       several clients that send requests all the time, and what they see
monitoring.py    real Prometheus and Alertmanager, with all windows divided by the drill's factor
webhooks.py      what Alertmanager sends: which alerts fire now, which have fired and when
runbook.py       executes the queries of a runbook's check, and looks for the labels that name the cause
faults/          each fault: how it begins and ends, the alerts that must fire, and what the runbook must show
drill.py         the order: a clean phase, then fault by fault: begin, alert, runbook, end, resolution
report.py        the report in Markdown
"""
