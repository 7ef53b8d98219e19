"""Metrics, calibration, reliability and speed; functions of arrays."""
