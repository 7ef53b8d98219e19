"""Entities in texts: read from files of many forms, checked, cleaned and split into a pool.

`read_cell` and `read_tags` read one row, `build_entity_pool` files.
"""
