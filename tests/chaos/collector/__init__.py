"""Collector faults under load: the collector of traces fails in each way in turn while clients send requests.

collector.py   an OTLP receiver that refuses, hangs, fails, is slow, or sends garbage
measured.py    what one phase showed: latencies, counters, memory
run.py         the phases on a running gateway
"""
