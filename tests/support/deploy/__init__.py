"""A host for the release lane: releases, nginx, and load while it works."""
