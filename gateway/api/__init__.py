"""The gateway's API: asking, event streams, conversations, keys, the OpenAI-compatible face."""
