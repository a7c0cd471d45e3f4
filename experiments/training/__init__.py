"""One run: from a configuration to a plan, through the training loop, to a record."""
