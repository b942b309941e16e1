"""`flowbiz-platform check`: can this configuration run? It changes nothing.

command.py         runs every check in turn and prints a line for each
prices.py          routes without a price, and the budgets that depend on it
provider_probe.py  one cheap call to each provider, through the adapter that sends requests
variables.py       misspelt and unusable environment variables
redis.py           what Redis does when its memory is full
"""
