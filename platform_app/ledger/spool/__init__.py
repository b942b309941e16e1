"""The spool: the files of a directory that all workers of a machine share.

spool.py        appends lines to this process's segment; closes it for the writer; refuses when there is no room
segments.py     the names of the files, and the locks that say which process owns them
pending.py      lines that become events if this process dies: intents of calls, growing counts
maintenance.py  twice a second: measures, applies the bound, retries, adopts dead processes' files, syncs
recovery.py     turns what a dead process left pending into a segment and charges
session.py      the connection to PostgreSQL whose every use has a deadline
"""
