"""The demo: a sample, or a visitor's own video, before and after on one page."""
