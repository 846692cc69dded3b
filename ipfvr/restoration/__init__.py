"""From low-quality face squares and what is known of a person to restored squares."""
