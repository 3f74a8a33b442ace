"""Word lists and word stems that the other parts share."""
