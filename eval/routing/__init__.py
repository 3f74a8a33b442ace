"""`siloquy bench routing`: routers on the same silos, passages and questions."""
