"""Many runs: frozen lists of runs, the processes that share them, tuned learning rates, estimates of time."""
