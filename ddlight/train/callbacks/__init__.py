"""What happens around training steps: averaging, checkpoints and signals, the bar, the curve."""
