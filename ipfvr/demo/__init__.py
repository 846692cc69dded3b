"""The demo: a sample, or the user's own video, before and after on one page."""
