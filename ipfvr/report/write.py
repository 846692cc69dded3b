"""The report of a run: ``results.json``, ``table.{csv,md,tex}``, plots as pictures, and ``index.html``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from ipfvr.core.config import config_to_dict
from ipfvr.core.files import atomic, write_json
from ipfvr.core.provenance import versions
from ipfvr.metrics.evaluation import KEYS, ClipScores, make_scorer
from ipfvr.metrics.protocol import protocol
from ipfvr.report.figures import plots, shown_clips, strips, videos
from ipfvr.report.fingerprint import MADE, PAGE, fingerprint
from ipfvr.report.page import Exhibit, page
from ipfvr.report.tables import csv_table, latex_table, markdown_table, results_json
from ipfvr.study.cells import Store
from ipfvr.study.judge import choose_judge
from ipfvr.study.plan import Arm
from ipfvr.study.results import Results
from ipfvr.study.schema import Study
from ipfvr.video.writer import write_picture


def write_report(results: Results, study: Study, arms: Sequence[Arm], store: Store, facts: Sequence[str]) -> None:
    """Write every file of the report to ``study.output``.

    Args:
        results: see :func:`ipfvr.study.results.collect`.
        study: the experiment.
        arms: the rows at each level.
        store: the store of the cells.
        facts: the source of the data and other facts for the reader, one sentence each.
    """
    output, config = study.output, study.config()
    clips = shown_clips(study, arms, store)
    pictures = plots(study, results)
    terms = terms_of(results, study)
    texts = {"table.csv": csv_table(results), "table.md": markdown_table(results), "table.tex": latex_table(results)}
    shown = Exhibit(
        videos(study, arms, store, clips, store.root / "truth"),
        {**pictures, **strips(study, arms, store, clips)},
        terms,
        commands(study, results),
        [*facts, *(f"{name} {version}" for name, version in versions().items())],
        # The version on the right is the last row at the last level: the one on the left is of that level, too.
        next((arm.title for arm in arms if arm.tasks and arm.level == study.experiment.levels[-1]), ""),
    )
    texts[PAGE] = page(results, shown)
    for name, text in texts.items():
        with atomic(output / name) as temporary:
            temporary.write_text(text)
    for title, image in pictures.items():
        write_picture(output / f"{title.lower().replace(' ', '_')}.png", image, 9)
    content: dict[str, Any] = results_json(results) | {"protocol": dict(terms), "commands": shown.commands}
    content |= {"versions": versions(), "configuration": config_to_dict(config), "facts": list(facts)}
    write_json(output / "results.json", content)
    write_json(output / MADE, {"fingerprint": fingerprint(results, study)})


def terms_of(results: Results, study: Study) -> dict[str, str]:
    """Return the protocol of the numbers; empty: there are none."""
    if not results.cells:
        return {}
    fields = ClipScores.__dataclass_fields__
    rows = [ClipScores(**{key: value for key, value in cell.items() if key in fields}) for cell in results.cells]
    video, limits = study.config().video, study.limits
    people = sorted({cell["person"] for cell in results.cells})
    distinct = sorted({cell["clip"] for cell in results.cells})
    first = (
        f"{len(distinct)} clips of {len(people)} people ({', '.join(people)}), {limits.frames} frames of "
        f"{video.size} x {video.size}; Eq. 13 at r = {video.scale}, levels {', '.join(study.experiment.levels)}; means "
        f"over seeds {', '.join(map(str, limits.seeds))}, then over the clips of a person, then over people"
    )
    judged = study.config(None, f"weights.recogniser={choose_judge(study.config()).name}")
    return {"data": first, **protocol(rows, make_scorer(judged, aligned=True, metrics=KEYS))}


def commands(study: Study, results: Results) -> dict[str, str]:
    """Return the command that makes the page, and the one that restores a single clip of each row."""
    given = [f"preset={study.preset}", *study.given]
    found = {"This page": shlex.join(["python", "-m", "ipfvr.reproduce", str(study.file), *given])}
    for line in results.lines:
        options = study.experiment.rows[line.row].set
        overrides = [f"options: {' '.join(options)}"] if options else []
        if line.commands or overrides:
            found[line.title] = "\n".join([*overrides, *line.commands])
    return found
