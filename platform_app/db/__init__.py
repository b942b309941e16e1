"""The database: engine, tables and migrations. PostgreSQL only."""
