"""`siloquy bench sealed`: sealed scoring, what it costs, keeps and hides."""
