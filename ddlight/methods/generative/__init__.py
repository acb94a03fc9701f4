"""Sets that a generator draws: plain samples, and samples that are guided, tuned, inverted or chosen."""
