"""`flowbiz-platform check`: can this configuration run? It changes nothing.

command.py         runs every check in turn and prints a line for each
prices.py          routes without a price, and the budgets that depend on it
provider_probe.py  one cheap call to each provider, through the adapter that sends requests; its models and the routes'
owners.py          owners of keys that look misspelt or are not declared
spool.py           whether the spool can be written, without writing
output.py          a check as a line
variables.py       misspelt and unusable environment variables
redis.py           what Redis does when its memory is full
"""
