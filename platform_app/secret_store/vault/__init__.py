"""Secrets from HashiCorp Vault or OpenBao.

store.py   reads a secret from the key-value engine, version 2
token.py   keeps one valid token: logs in, renews it before it expires
login.py   the login methods: token, AppRole, Kubernetes
open.py    creates the store from the settings
http.py    requests, and the meaning of Vault's error responses
"""
