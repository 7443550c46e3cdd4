"""Bundles with fewer bytes: item vectors as float16 or int8, states as int8.

graphs.py    a bundle's graphs, for a packed item table
bundle.py    a bundle -> the same, packed
measure.py   what that costs and gains, as a table
held_out.py  the same when a model was just trained: how it is to be stored
command.py   `freshet-export compress`
"""
