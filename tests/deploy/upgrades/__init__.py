"""What docs/upgrades.md promises: two versions beside each other, and a restored backup."""
