"""How fast the gateway is, as ratios to a bare pass-through measured in the same run. `make bench`."""
