"""One file per method; the base classes are in `base`."""
