"""How often the intervals over people hold the truth, on simulated people: 95 % is what they say.

    python benchmarks/coverage_of_intervals.py --trials 2000

Every person has a mean of their own and every clip a deviation from it, both normal; the truth is 0. Prints a Markdown
table: people, clips of each, both standard deviations, and the share of simulations whose interval holds 0.
"""

from __future__ import annotations

import argparse

import numpy as np

from ipfvr.metrics.intervals import bootstrap_interval

# People, clips of each, standard deviations of people and of their clips.
CASES = (
    (4, 1, 1.0, 0.0),
    (4, 4, 1.0, 1.0),
    (7, 2, 1.0, 0.3),
    (7, 2, 1.0, 1.0),
    (7, 2, 0.3, 1.0),
    (7, 8, 1.0, 1.0),
    (9, 1, 1.0, 0.0),
    (20, 1, 1.0, 0.0),
    (20, 2, 1.0, 1.0),
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    print("| people | clips of each | between people | between clips | the interval holds the truth |")
    print("|---|---|---|---|---|")
    for people, clips, between, within in CASES:
        share = coverage(people, clips, between, within, trials)
        print(f"| {people} | {clips} | {between} | {within} | {share:.1%} |", flush=True)


def coverage(people: int, clips: int, between: float, within: float, trials: int, resamples: int = 1000) -> float:
    """The share of ``trials`` whose interval holds the truth."""
    rng, held = np.random.default_rng(0), 0
    for trial in range(trials):
        numbers = between * rng.normal(size=(people, 1)) + within * rng.normal(size=(people, clips))
        low, high = bootstrap_interval(numbers.tolist(), resamples=resamples, seed=trial)
        held += low <= 0 <= high
    return held / trials


if __name__ == "__main__":
    main()
