"""Connections to other services: each URL is parsed, checked and translated before a connection is opened.

database_url.py, database_parameters.py, database_tls.py   PostgreSQL: libpq URLs for asyncpg
tcp_options.py                                             PostgreSQL: TCP keepalives by libpq's names
redis_url.py, redis_parameters.py                          Redis: URLs for redis-py
egress.py, tls_files.py                                    providers: proxies, CAs and client certificates
url_parts.py                                               the parts of a URL, without messages that repeat it
local_host.py                                              whether a server is on this machine
"""
