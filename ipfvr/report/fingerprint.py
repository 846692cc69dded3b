"""The fingerprint of a report, which tells whether it shows the latest results; no heavy package is imported."""

from __future__ import annotations

import hashlib
import json

from ipfvr import __version__
from ipfvr.report.tables import results_json
from ipfvr.study.results import Results
from ipfvr.study.schema import Study

PAGE = "index.html"
MADE = "made_of.json"


def fingerprint(results: Results, study: Study) -> str:
    """Return a hash of everything that the report shows; a report with the same hash is not written again."""
    shown = json.dumps([__version__, results_json(results), list(study.pairs), study.experiment.shown], default=str)
    return hashlib.sha256(shown.encode()).hexdigest()


def is_written(results: Results, study: Study) -> bool:
    """Return whether the report of these results has been written."""
    made = study.output / MADE
    whole = made.is_file() and (study.output / PAGE).is_file()
    return whole and json.loads(made.read_text())["fingerprint"] == fingerprint(results, study)
