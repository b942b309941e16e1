"""What is done about a provider's bad day: each policy is an Upstream around others. docs/adr/0010."""
