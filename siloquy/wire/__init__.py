"""What goes between nodes: the calls, one channel, sealed envelopes."""
