"""IP-FVR: reference-guided identity preservation in face video restoration."""

__version__ = "0.1.0"
