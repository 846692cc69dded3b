"""Training data in the device's memory: batches are warped, softened and varied there, H.264 runs beside it."""
