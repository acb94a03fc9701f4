"""How fast this machine loads, trains, labels and selects with ddlight, as ratios to plain reference loops."""
