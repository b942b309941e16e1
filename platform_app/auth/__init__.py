"""Who calls: tokens, keys, permissions and the cache in front of them."""
