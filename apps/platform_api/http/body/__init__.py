"""Request bodies: bounded in size, time and memory, and parsed as JSON at a bounded cost."""
