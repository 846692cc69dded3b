"""Low quality made of sharp frames: Eq. 13, faults of films beside it, the degraded reference of Eq. 12."""
