"""The rooms that know brokers. In: record batches. Out: record batches. Nothing of recommending."""
