"""Bundles behind HTTP: models by name, batches without a timer, limits, keys, and the protocols of other servers."""
