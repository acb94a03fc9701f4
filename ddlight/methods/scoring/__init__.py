"""What methods share that ask a network: the scoring run and its table, features, embeddings, samplers, a search."""
