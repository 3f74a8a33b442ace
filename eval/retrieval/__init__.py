"""`siloquy bench retrieval`: the federation beside one central index."""
