"""Tools that a provider does not take as the client names or describes them: mapped in the request, and back in the
response.

ids.py           ids of calls -> ids that Anthropic accepts
names.py         names -> names that the provider accepts
custom_tools.py  custom tools, which take text -> functions of one text, for Anthropic
"""
