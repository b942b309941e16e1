"""The ledger: who asked for what, what was decided, and what it used.

    request ──append──> spool/      a line in a segment file of this process; nothing is waited for
                          │         (<owner>.pending: calls without an end, counts that still grow)
                          v
                        shipping/   every 0.5 s: the segment's lines go to COPY, then the file is removed
                          │
                          v
                        PostgreSQL  access_decisions, usage_records (daily partitions), usage_daily (totals)
                          │
                          v
                        reading/    audit, usage, what was spent of a budget

`events/` says what an event is and how a line of it looks. `interfaces.py` is the ledger as requests see it, and
`service.py` puts the parts together for a process. Every step can be repeated: an event's id makes the second time
change nothing. See docs/adr/0004, 0020 and 0032.
"""
