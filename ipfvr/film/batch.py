"""Many videos and pictures: one row a file, each a task of its own for whoever the cluster has."""

from __future__ import annotations

import codecs
import csv
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tqdm import tqdm

from ipfvr.core.cluster import Cluster, Lost, Task
from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic, check_writable
from ipfvr.core.messages import progress_bar
from ipfvr.core.options import Config
from ipfvr.film.job import Job
from ipfvr.film.run import is_finished, restore
from ipfvr.film.source import writable_ending
from ipfvr.report.restored import batch_page
from ipfvr.video.mux import CONTAINERS
from ipfvr.video.photo import WRITABLE, is_photo

if TYPE_CHECKING:
    from ipfvr.models.networks import Networks

REPORT, INDEX = "report.csv", "report.html"
# A folder's files that are taken for videos, beside its pictures.
_ENDINGS = {
    *CONTAINERS,
    *(".avi", ".webm", ".gif", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".vob"),
    *(".ogv", ".mxf"),
}


@dataclass(frozen=True)
class Row:
    """What became of one file.

    Attributes:
        file: the input.
        output: the restored file; empty where there is none.
        status: ``done``, ``kept`` (an earlier run has finished the very same) or ``failed``.
        frames: written.
        restored: of them, with a restored face.
        seconds: of wall clock.
        error: in one line; empty where there was none.
    """

    file: str
    output: str
    status: str
    frames: int = 0
    restored: int = 0
    seconds: float = 0.0
    error: str = ""


def sources_of(path: Path) -> list[Path] | None:
    """Return the videos and pictures of a folder (sorted) or of a ``.txt`` list (one path a line); None: a single file.

    Raises:
        UserError: none in it.
    """
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if _is_source(p))
    elif path.suffix.lower() == ".txt" and path.is_file():
        found = [path.parent / name for name in read_list(path)]
    else:
        return None
    if not found:
        raise UserError(f"no video and no picture in {path}")
    return found


def _is_source(path: Path) -> bool:
    known = path.suffix.lower() in _ENDINGS or is_photo(path)
    return known and path.is_file() and not path.name.startswith(".")


def read_list(path: Path) -> list[str]:
    """Return the names in a list of files: one a line, ``#`` begins a remark, quotes around a name are left out.

    The list may come from any system: with or without a byte order mark, in UTF-8 or UTF-16, with any line ends.

    Raises:
        UserError: it is not text in either encoding.
    """
    content = path.read_bytes()
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8")
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8 or UTF-16: save the list in one of them") from None
    names = [line.strip().strip("\"'").strip() for line in lines]
    return [name for name in names if name and not name.startswith("#")]


def restore_many(job: Job, config: Config, devices: int = 1, dry_run: bool = False, page: bool = False) -> None:
    """Restore every file of ``job.source`` into the folder ``job.output``; one row a file in its ``report.csv``.

    ``report.html`` has the same rows, with links to the pages of the files.

    A file that fails does not stop the others.

    Args:
        job: of every file, but for source and output.
        config: how; ``cluster`` and ``slurm`` say by whom.
        devices: see the ``workers`` of :class:`ipfvr.core.cluster.Cluster`.
        dry_run: print each file's plan instead.
        page: write each file's page too.

    Raises:
        UserError: an output that is no folder; at the end, files that failed.
    """
    sources, folder = sources_of(job.source) or [], job.output
    if folder.suffix.lower() in (CONTAINERS | WRITABLE) or folder.is_file():
        raise UserError(f"{job.source} holds {len(sources)} files: --output must be a folder, not {folder}")
    outputs = _outputs(sources, folder)
    if dry_run:
        from ipfvr.film.estimate import describe_plan

        for source, output in zip(sources, outputs, strict=True):
            print(describe_plan(replace(job, source=source, output=output), config), end="\n\n")
        return
    check_writable(folder / REPORT)
    with Cluster(devices, config.cluster, config.slurm) as cluster:
        done = _restore_all(job, config, sources, outputs, cluster, page)
    _write_report(folder / REPORT, done)
    with atomic(folder / INDEX) as temporary:
        temporary.write_text(batch_page([{**asdict(row), "page": _page_of(row)} for row in done]))
    failed = [row for row in done if row.status == "failed"]
    print(f"{folder / REPORT}: {len(done) - len(failed)} of {len(done)} files done")
    if failed:
        raise UserError(f"{len(failed)} of {len(done)} files failed, the first is {failed[0].file}: {failed[0].error}")


def _page_of(row: Row) -> str:
    """Return the address of a file's page from the folder's; empty: it has none."""
    page = row.output and Path(row.output).with_suffix(".html")
    return quote(page.name) if page and page.is_file() else ""


def _restore_all(
    job: Job, config: Config, sources: list[Path], outputs: list[Path], cluster: Cluster, page: bool
) -> list[Row]:
    """Restore all files and return their rows in order; each is reported as soon as it is finished."""
    # Who restores a film is not part of what it is made by.
    config, gpu = replace(config, cluster="", slurm={}), cluster.gives_gpus(config.device)
    jobs = {
        f"film-{number}": replace(job, source=source, output=output)
        for number, (source, output) in enumerate(zip(sources, outputs, strict=True))
    }
    tasks = [Task(name, _restore_one, (one, config, page), gpu=gpu) for name, one in jobs.items()]
    rows: dict[str, Row] = {}
    with progress_bar(len(tasks), "films", "film", shown=not cluster.here) as bar:
        for task, row in cluster.run(tasks):
            if isinstance(row, Lost):
                row = Row(str(jobs[task.name].source), "", "failed", error=row.reason)
            rows[task.name] = row
            if row.error:
                tqdm.write(f"error: {row.error}", sys.stderr)
            tqdm.write(f"{row.file}: {row.status}{f', {row.error}' if row.error else f' in {row.seconds:.1f} s'}")
            bar.update()
    return [rows[name] for name in jobs]


def _restore_one(job: Job, config: Config, page: bool) -> Row:
    began = time.monotonic()
    try:
        report = is_finished(job, config)
        status = "kept" if report else "done"
        report = report or restore(job, config, job.page if page else None, _networks(repr(config)))
        return Row(
            str(job.source),
            str(job.output),
            status,
            report["frames"],
            report["restored"],
            round(time.monotonic() - began, 3),
        )
    except Exception as error:
        # Whatever it is, it is this file's: the others are not to wait for somebody to read it.
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        line = kind + " ".join(str(error).split())
        return Row(str(job.source), "", "failed", seconds=round(time.monotonic() - began, 3), error=line)


@lru_cache(maxsize=1)
def _networks(configuration: str) -> list[Networks]:
    """What this process has loaded for the films of a configuration, which stays loaded for the next film."""
    return []


def _outputs(sources: list[Path], folder: Path) -> list[Path]:
    """Return a name for each: the source's, in a container that can be written, and a number where two are alike."""
    found: list[Path] = []
    for source in sources:
        suffix = writable_ending(source)
        stems = [source.stem, *(f"{source.stem}-{n}" for n in range(2, len(sources) + 3))]
        # Their reports and pages, and the folder's, are told apart by the stem.
        taken = {Path(INDEX).stem, *(p.stem for p in found)}
        found.append(next(folder / f"{s}{suffix}" for s in stems if s not in taken))
    return found


def _write_report(path: Path, rows: list[Row]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, list(Row.__annotations__))
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
