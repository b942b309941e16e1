"""TCP between a client and a server: proxies, a firewall, TLS, free ports."""
