"""Subsets of real images, chosen by the geometry of a network's features or gradients."""
