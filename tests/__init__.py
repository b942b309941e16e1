"""unit: fakes, mirrors the source; integration: real servers; contract: one per interface; chaos: kills things."""
