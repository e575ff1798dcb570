"""The member's rules: names, plans, orders, capacity.

Pure: nothing below does I/O, reads a clock or draws a random number; what is needed of them is passed in.
"""
