"""Algorithms, named once, and the few operations on them. The only package that imports `cryptography`."""
