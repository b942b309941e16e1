"""Grammars of the streams that the gateway emits."""
