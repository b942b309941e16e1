"""Who may call a route: reading credentials, and the check that no route is unguarded."""
