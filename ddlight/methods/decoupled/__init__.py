"""Sets made with the help of trained classifiers, apart from the student's training."""
