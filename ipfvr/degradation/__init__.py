"""Degrading sharp frames: Eq. 13, other faults of films, the degraded reference of Eq. 12."""
