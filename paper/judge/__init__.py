"""The claims of the method's paper, and what the records say about each."""
