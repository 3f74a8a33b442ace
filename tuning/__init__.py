"""Federated LoRA for retriever and generator: local step, strategies, secure sums, rounds."""
