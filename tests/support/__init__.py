"""What several tests share: starting a gateway, making keys, free ports."""
