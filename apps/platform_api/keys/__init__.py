"""The API of API keys: create, change, rotate and revoke."""
