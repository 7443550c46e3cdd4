"""HTTP in front of the topics: lists read from memory, events posted, erasures, streams.

In: requests, and the records of `recommendations`, `answers` and `receipts`. Out: answers, and
records of the topics that are read by workers. Scores nothing and keeps nothing on disk.
"""
