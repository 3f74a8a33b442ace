"""`siloquy bench load`: latency, throughput, overload, the page."""
