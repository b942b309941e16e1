"""Routes: each reads its typed parameters, calls one service and returns a response."""
