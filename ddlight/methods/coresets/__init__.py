"""Subsets of real images, chosen by training dynamics, by geometry or by concepts."""
