"""No tests: `make quality DATA=...` trains on a public log and prints what the lists are worth."""
