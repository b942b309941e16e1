"""Shipping: from closed segments to PostgreSQL, each event once.

writer.py          takes segments, oldest first; removes what is committed; sets bad lines aside
batch.py           sorts a segment's lines by table and day, without decoding them
shipper.py         one transaction: COPY into a staging table, INSERT what is new, note when keys were used
tables.py          which kind of event goes into which table, and for how long
partitions.py      makes coming days and drops expired ones, once an hour
orphan_charges.py  charges the limits for calls of dead processes
"""
