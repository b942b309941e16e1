"""Kept requests, real OTLP receivers, and exporters that read from pipes."""
