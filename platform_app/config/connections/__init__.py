"""Connections to other services: each URL is parsed, checked and translated before a connection is opened.

database_url.py, database_parameters.py, database_tls.py   PostgreSQL: libpq URLs for asyncpg
redis_url.py                                               Redis: URLs for redis-py
egress.py, tls_files.py                                    providers: proxies, CAs and client certificates
local_host.py                                              whether a server is on this machine
"""
