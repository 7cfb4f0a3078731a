"""What `Store` promises, method by method in the protocol's order; every store passes all of it."""
