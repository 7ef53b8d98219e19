"""PGKD: the teacher writes training texts guided by the validation report (Palo et al. 2024)."""
