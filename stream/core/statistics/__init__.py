"""How often items are shown, clicked and bought: per partition, of all partitions, and what trends.

Counts fade with time. They hold no user: an item's hash, a time, five numbers.
"""
