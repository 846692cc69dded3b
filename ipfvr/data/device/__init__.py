"""Training data in the device's memory, where batches are warped, softened and varied; H.264 runs on the CPU."""
