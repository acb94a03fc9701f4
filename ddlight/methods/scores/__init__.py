"""Subsets of real images, chosen by a score of each image."""
