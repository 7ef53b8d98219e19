"""Texts -> token ids and padded batches, the same in training and in serving."""
