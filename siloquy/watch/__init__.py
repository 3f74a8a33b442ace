"""What a node shows of itself: metrics, health, traces, capture."""
