"""Leakage versus recall, and all other benchmarks."""
