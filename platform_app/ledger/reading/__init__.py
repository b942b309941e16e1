"""Reading: what the ledger stored, for HTTP, the command line and budgets.

usage.py, usage_query.py  sums from the daily totals, and single usage records
audit.py, audit_owner.py  access decisions and key changes as one list, and which of them an owner may see
requests.py               one request by its id: decision, usage, hops and attempts
spooled.py                events of this machine's spool, which may not be stored yet
spent.py                  what was used since a moment: PostgreSQL and this machine's spool together
"""
