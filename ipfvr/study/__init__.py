"""One experiment: what it says, the cells it is made of, and how they are run."""
