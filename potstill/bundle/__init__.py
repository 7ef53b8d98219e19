"""Bundles: export a trained student, load the folder, predict with it, label a file."""
