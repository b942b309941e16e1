"""The tokens and the cost of a call.

Before the call, `token_estimate.py` estimates the prompt for the limits. After it, `counts.py` reads the counts of the
provider in any format, `settlement.py` decides which of them are used and estimates the others, and `pricing.py`
computes the cost. The ledger, the limiter and the metrics all take the settled counts.
"""
