"""Attacks that benchmarks run, a file an artefact; they import no benchmark."""
