"""Mosaics of patches of real images; nothing is optimised."""
