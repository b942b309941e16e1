"""Where credentials come from: one interface, one file per store."""
