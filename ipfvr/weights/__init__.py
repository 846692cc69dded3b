"""Weights: the catalogue, finding files, fetching and verifying them."""
