"""One experiment: its description, the cells that it consists of, and how they are run."""
