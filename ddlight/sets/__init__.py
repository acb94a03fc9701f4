"""The condensed set: on disk (`store`), as a data module (`module`), and what others published (`readers`)."""
