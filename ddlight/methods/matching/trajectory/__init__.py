"""What trajectory matching shares: experts and their weights over training, and gradients through N inner steps."""
