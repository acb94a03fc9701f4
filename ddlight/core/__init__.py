"""What everything stands on: errors, files, names, draws, the result schema, what the package contains."""
