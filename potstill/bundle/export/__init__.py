"""Export a trained student to a bundle and check it against the original."""
