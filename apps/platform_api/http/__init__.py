"""What every request meets on its way to a handler and back: bounded bodies, and the parsing of JSON in them."""
