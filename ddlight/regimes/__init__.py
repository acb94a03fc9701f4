"""One file per label regime: what the student is asked to match."""
