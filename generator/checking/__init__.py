"""Whether passages carry a sentence, and where passages differ. Pure."""
