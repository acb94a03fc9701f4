"""Sets and labels that others published, one file a layout."""
