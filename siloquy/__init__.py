"""Siloquy: ask one clinical question across hospitals that never pool their documents."""

__version__ = "0.1.0"
