"""Commands: from a command line and YAML to objects, and what the short commands print."""
