"""What a question asks for: follow-ups written out, several questions taken apart."""
