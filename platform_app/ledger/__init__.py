"""What every request leaves behind: written to a spool on disk first, shipped to PostgreSQL behind its back."""
