"""What a condensed set is like, without training on it: coverage, distances, duplicates, labels, bytes and cost.

`coverage`, `distances`, `duplicates` and `cost` compute; `sets` finds the sets, `labels` what labelled them, `images`
what they are compared with, part by part; `analysis` puts a set's row together, `rows` and `command` print it.
"""
