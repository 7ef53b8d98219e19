"""PGKD: the teacher generates training texts, guided by the validation report (Palo et al. 2024)."""
