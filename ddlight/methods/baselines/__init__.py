"""What every method is compared with: the full data and a random subset."""
