"""Events, and how each is written as a line.

access_decision.py, usage_record.py   the events: each field is named once, with its codec
codecs.py                             how one value is written, checked, constrained in PostgreSQL and shown
columns.py                            from an event's fields: its line, COPY's columns, its report
event.py                              every kind of event, and `decode` for the lines of all versions
hops_and_attempts.py                  the hops and attempts of a request as two texts of its access decision
intents.py                            a usage record that is written before its call is sent
refusal_counts.py                     which refusals without a key are events, and which are only counted
"""
