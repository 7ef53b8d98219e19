"""Distill or annotate: spend the budget where it is expected to gain most (Kang et al. 2023)."""
