"""A task in, a prediction out."""
