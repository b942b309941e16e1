"""The tokens and the cost of a call.

Before the call, `token_estimate.py` estimates the prompt for the limits. After it, `counts.py` reads the counts of the
provider in any format, `settlement.py` decides which of them are used and estimates the others, and `pricing.py`
computes the cost. `unread_attempts.py` estimates what attempts cost whose response was not read to its end. The ledger,
the limiter and the metrics all take the settled counts.
"""
