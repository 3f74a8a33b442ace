"""Which silos to ask: profiles, affinity, choice under budget, learning, trust, registry."""
