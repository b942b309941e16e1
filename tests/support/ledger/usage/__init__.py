"""What tests of usage share."""
