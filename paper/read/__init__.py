"""From records to what the paper speaks of: rows of runs, means and differences, names and numbers in print."""
