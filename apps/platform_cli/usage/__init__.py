"""`flowbiz-platform usage`: what the ledger recorded, and a provider's bill compared with it.

command.py    sums and single records as a table, JSON or CSV
bill_csv.py   a provider's CSV export -> sums by day and model
reconcile.py  both sides, day by day and model by model
"""
