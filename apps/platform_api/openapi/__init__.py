"""The OpenAPI document: what each route takes and gives, with an example for every success and every error."""
