"""Many runs: studies, their cells, worker processes, job arrays and sweeps."""
