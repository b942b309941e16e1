"""The outermost layer of every request: `request` is the middleware, the other files are its parts."""
