"""`siloquy bench answers`: what is said, checked and withheld."""
