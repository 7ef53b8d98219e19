"""Tasks, tables and pools: the texts, their labels and their splits."""
