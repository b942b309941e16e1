"""Reading: queries over access decisions and usage records."""
