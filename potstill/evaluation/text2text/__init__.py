"""Metrics of text-to-text tasks: entities in a text, and answers in words. Functions of strings and arrays."""
