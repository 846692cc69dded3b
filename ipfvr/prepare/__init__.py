"""Making the data layout of trainings and experiments from raw videos and pictures of people."""
