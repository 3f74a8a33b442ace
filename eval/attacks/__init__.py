"""Attacks that benchmarks run, a file an artefact."""
