"""From a log to a bundle: compare, train, measure, search parameters."""
