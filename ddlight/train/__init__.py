"""The Trainer, what happens around its steps, and the record of a run."""
