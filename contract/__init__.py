"""What crosses the wire between gateway, member and visitor.

Pure: nothing below does I/O, reads a clock or draws a random number; times and random bytes are passed in.
Uses the standard library and PyJWT (signatures), and imports no other package of this project.

Wire forms are additive: unknown fields are ignored on reading, and no field ever changes its meaning.
"""
