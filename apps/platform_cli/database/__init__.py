"""Commands that change the database: its schema, its roles, and the maintenance of the ledger."""
