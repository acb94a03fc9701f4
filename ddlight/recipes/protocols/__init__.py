"""Published training recipes: one file per source, each rule from a setting to explicit numbers."""
