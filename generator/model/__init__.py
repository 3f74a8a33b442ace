"""Language models behind one port: an OpenAI-compatible endpoint, or transformers in process."""
