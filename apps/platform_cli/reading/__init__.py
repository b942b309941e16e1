"""Commands that read the ledger and the limits: `audit`, `requests` and `limits`."""
