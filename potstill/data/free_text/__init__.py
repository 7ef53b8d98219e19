"""Texts answered by free texts: read from tables with one answer a text or several, cleaned and split into a pool.

`read_references` reads one cell, `build_free_text_pool` files.
"""
