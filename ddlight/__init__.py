"""ddlight makes and judges condensed training sets: dataset distillation and coresets."""

__version__ = "0.1.0"
