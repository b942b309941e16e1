"""The simulated model: what it answers, its embeddings and structured output."""
