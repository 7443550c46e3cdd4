"""The quality of lists, observed while they are served."""
