"""Secrets in the configuration: `files` reads secrets from files, and `stores` has the settings of secret stores."""
