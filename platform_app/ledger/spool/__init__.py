"""The spool: append-only files on disk that hold events until they are in PostgreSQL."""
