"""Recovering images from trained networks: views, layer statistics and the loop that decoupled distillation shares."""
