"""The condensed set: on disk (`store`) and as training batches (`loader`)."""
