"""How often items are shown, clicked and bought: per partition, of all partitions, and what trends.

And the rewards of lists that explore. Counts fade with time. They hold no user: an item's hash, a
time, five numbers; of lists a hash of their settings, a time, two numbers for each segment of users
and multiplier.
"""
