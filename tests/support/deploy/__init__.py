"""What the tests of deploy/ share: the lane with its host, clusters, and in `host` what builds and runs the rest."""
