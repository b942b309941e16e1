"""Creates, changes, rotates and revokes API keys.

service.py       KeyLifecycle: each change and its audit event are one transaction, then an event is published
locked_keys.py   locks the changed key and the actor's own key in that transaction
rules.py         what a key may contain and what an actor may do to it, without I/O
audit.py         writes the audit event
events.py        publishes changes over Redis, and drops changed keys from caches
store.py         KeyStore: reads keys, one statement per method
records.py       the data: KeyRecord, Actor, NewKey, KeyChanges
"""
