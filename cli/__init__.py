"""What the commands of experiments/ and theory/ have in common: their --help, and Hydra's errors in one line."""
