"""Make tables, figures and ablations of the paper: ``python -m ipfvr.reproduce experiments/table1.yaml preset=mini``.

Several experiments can be given; they share their cells. Finished cells are kept: the same command resumes an
interrupted run, and a changed option makes only the cells that depend on it again. The report is
``runs/reproduce/<name>_<preset>/index.html``.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence

from tqdm import tqdm

from ipfvr.core.cluster import Cluster
from ipfvr.core.errors import UserError, run_verb
from ipfvr.methods.settings import not_installed
from ipfvr.metrics.columns import COLUMNS
from ipfvr.report.numbers import number
from ipfvr.study.cells import Cell, Store
from ipfvr.study.make import make_cells, outcome
from ipfvr.study.people import SAMPLE_SOURCE, find_people
from ipfvr.study.plan import Arm, find_clips, missing_weights, plan_arms, plan_clips
from ipfvr.study.results import Results, collect, merged
from ipfvr.study.schema import Study, load_study

log = logging.getLogger(__name__)


class CellsFailed(Exception):
    """Raised when cells have failed; the report says which."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT.yaml or key=value")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would run and which files are missing, and run nothing"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line; the module's docstring shows its use."""
    args = make_parser().parse_intermixed_args(argv)
    files = [word for word in args.experiments if "=" not in word]
    pairs = [word for word in args.experiments if "=" in word]
    if not files:
        raise UserError("name an experiment, such as experiments/table1.yaml")
    studies = [load_study(file, pairs) for file in files]
    if args.dry_run:
        print("\n".join(map(dry_run, studies)))
        return
    failed = []
    config = studies[0].config()
    with Cluster(max(study.experiment.jobs for study in studies), config.cluster, config.slurm) as cluster:
        found = [(study, reproduce(study, cluster)) for study in studies]
    for study, results in found:
        failed += [f"{study.name}: {line.title}: {line.reasons[0]}" for line in results.failed]
    if failed:
        raise CellsFailed(f"{len(failed)} rows have cells that failed; the first is {failed[0]}")


def reproduce(study: Study, cluster: Cluster) -> Results:
    """Make the cells of an experiment on the cluster, and its report.

    Raises:
        UserError: data are missing or an option is invalid. A cell that fails raises nothing; its row shows it.
    """
    began = time.perf_counter()
    people, root, source = find_people(study)
    if source == SAMPLE_SOURCE:
        study = study.on_sample()
        source += f", with {' '.join(study.limits.of_sample)} unless the command says otherwise"
    store, device = Store(study.store), study.config().device
    scenes = plan_clips(study, people)
    tried = make_cells([cell for _, cell in scenes], store, cluster, device)
    arms = plan_arms(study, find_clips(scenes, store), people, store, root)
    news = RowNews(study, arms, store)
    tried += make_cells([task.scores for arm in arms for task in arm.tasks], store, cluster, device, news.after)
    results = collect(study, arms, store)
    lost, _ = outcome([cell for _, cell in scenes], store)
    results.footnotes += merged([*(person.note for person in people if person.note), *lost])
    report(study, results, arms, store, source)
    print(f"{study.output / 'index.html'}: {tried} cells made, {time.perf_counter() - began:.0f} s", flush=True)
    return results


class RowNews:
    """Prints the numbers of each row, and logs them to W&B, as soon as its last cell is there, long before the page.

    Args:
        study: the experiment.
        arms: the rows.
        store: keeps the cells.
    """

    def __init__(self, study: Study, arms: Sequence[Arm], store: Store) -> None:
        self._study, self._store = study, store
        self._waiting = [arm for arm in arms if arm.tasks]

    def after(self, cell: Cell) -> None:
        """Tell of the rows that this cell has completed."""
        if cell.kind != "scores":
            return
        for arm in [arm for arm in self._waiting if all(self._store.finished(task.scores) for task in arm.tasks)]:
            self._waiting.remove(arm)
            row = collect(self._study, [arm], self._store)
            means = row.lines[0].summaries
            shown = [f"{COLUMNS[key].title} {number(mean.mean, COLUMNS[key])}" for key, mean in means.items() if mean]
            tqdm.write(f"{arm.title}: {', '.join(shown)}")
            from ipfvr.report.wandb_log import log_finished_row

            if note := log_finished_row(row, self._study, arm, self._store):
                log.info("note: %s", note)


def report(study: Study, results: Results, arms: Sequence[Arm], store: Store, source: str) -> None:
    """Write the report and log it, unless the results have not changed."""
    from ipfvr.report.fingerprint import is_written

    if is_written(results, study):
        return
    from ipfvr.report.write import write_report

    write_report(results, study, arms, store, [f"data: {source}"])
    from ipfvr.report.wandb_log import log_results

    if note := log_results(results, study, arms, store):
        log.info("note: %s", note)


def dry_run(study: Study) -> str:
    """Return the plan as text: rows, levels, people, and every missing file with its source and size."""
    limits, experiment = study.limits, study.experiment
    lines = [
        f"{study.name} ({study.preset}): {experiment.title}",
        f"  {len(experiment.rows)} rows x {len(experiment.levels)} levels x {limits.clips} clips for each test scene x "
        f"{len(limits.seeds)} seeds, {limits.frames} frames each",
    ]
    missing: dict[str, list[str]] = {}
    for name, row in experiment.rows.items():
        config = study.config(row)
        reasons = missing_weights(config, row.method)
        reasons += [reason] if (reason := not_installed(row.method, config)) else []
        for line in reasons:
            missing.setdefault(line, []).append(name)
    lines += [f"  missing: {line} (rows: {', '.join(names)})" for line, names in missing.items()]
    try:
        people, _, source = find_people(study)
        lines.append(f"  people: {', '.join(p.name for p in people)}; {source}")
    except UserError as error:
        lines.append(f"  no data: {error}")
    return "\n".join(lines)


def run(argv: list[str] | None = None) -> int:
    """Run the verb and return its exit code: 1 if a cell has failed."""
    try:
        return run_verb(main, argv)
    except CellsFailed as error:
        import sys

        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(run())
