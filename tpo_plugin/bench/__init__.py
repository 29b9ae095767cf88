"""What a pair costs: the same model, data and seed on upstream's scheme, the plain path and the fast path."""
