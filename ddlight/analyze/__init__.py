"""What a condensed set is like, without training on it: coverage, distances, duplicates, labels, bytes and cost.

`coverage`, `distances`, `duplicates` and `entropy` compute; `sets` and `stored_labels` find what they compute from,
`pixels` hands it to them in parts; `analysis` puts a set's row together, `cost` its account, `command` prints both.
"""
