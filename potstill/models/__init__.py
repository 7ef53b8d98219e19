"""Model weights by name, and texts as token ids, features and vectors."""
