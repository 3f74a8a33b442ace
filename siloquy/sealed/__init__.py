"""Sealed scoring: encrypted questions, packed numbers, handles."""
