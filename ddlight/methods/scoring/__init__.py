"""Training dynamics recorded per sample, scores computed from them, samplers that turn scores into subsets."""
