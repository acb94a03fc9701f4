"""Decoupled distillation: images are made from trained classifiers, labels come from them afterwards."""
