"""Distillation by matching: images are moved until training on them resembles training on the real ones."""
