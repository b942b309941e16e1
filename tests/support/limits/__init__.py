"""The limiter on a clock that the test controls, also in separate processes."""
