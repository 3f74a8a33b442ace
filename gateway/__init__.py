"""The gateway: a question from a person to its signed answer, and the people who ask."""
