"""How fast this machine loads and labels with ddlight, as ratios to plain reference loops."""
