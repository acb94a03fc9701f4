"""What stands beside a paper's own tables and figures: its published numbers, its measures, its kinds of figures."""
