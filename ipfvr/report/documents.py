"""The documents' pages of finished experiments: ``python -m ipfvr.report.documents runs/reproduce docs/results``.

Each report becomes a page of Markdown with its plots, and ``index.md`` lists the paper's sentences with their verdicts.
Pictures and videos of people stay in the reports.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipfvr.core.config import load_yaml
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic
from ipfvr.report.sentences import count_verdicts, counted

INDEX = "index.md"
ORDER = ("quality", "table", "figure", "ablate", "sweep")  # the beginnings of the experiments' names


def write_documents(reports: Path, folder: Path, experiments: Path, preset: str = "mini") -> list[Path]:
    """Write a page for each report of a preset, and an index, which names the experiments that were not run.

    Args:
        reports: the folder that holds the reports, such as ``runs/reproduce``.
        folder: the folder of the pages.
        experiments: the folder of the experiment files.
        preset: the preset of the reports.

    Returns:
        The pages, the index first.

    Raises:
        UserError: there is no report of the preset.
    """
    suffix = f"_{preset}"
    found = sorted(reports.glob(f"*{suffix}/results.json"), key=lambda file: _place(file.parent.name))
    if not found:
        raise UserError(f"no *{suffix}/results.json in {reports}: run make reproduce-all first")
    written, lines = [folder / INDEX], []
    for file in found:
        content, name = json.loads(file.read_text()), file.parent.name.removesuffix(suffix)
        plots = sorted(file.parent.glob("*.png"))
        for plot in plots:
            _copy(plot, folder / f"{name}_{plot.name}")
        table = (file.parent / "table.md").read_text()
        written.append(folder / f"{name}.md")
        _write(written[-1], _page(name, content, table, plots))
        lines += _index_lines(name, content)
    files = sorted(experiments.glob("*.yaml"), key=lambda file: _place(file.stem))
    for file in files:
        if file.stem not in {page.stem for page in written} and (
            title := load_yaml(file, "experiment file").get("title")
        ):
            lines.append(f"| {title} | not run | `python -m ipfvr.reproduce {file.as_posix()} preset={preset}` | |")
    _write(written[0], _index(preset, lines))
    return written


def _page(name: str, content: dict[str, Any], table: str, plots: Sequence[Path]) -> str:
    """Return a page: the command, the table with its notes and sentences, the plots, and what made the numbers."""
    title, _, rest = table.partition("\n")
    parts = [
        title,
        "The program wrote this page from the cells of:",
        f"```bash\n{content['commands']['This page']}\n```",
    ]
    parts += [rest.strip(), *(f"![{_title(plot)}]({name}_{plot.name})" for plot in plots)]
    made = [f"- **{subject}**: {sentence}" for subject, sentence in content["protocol"].items()]
    made += [f"- {fact}" for fact in content["facts"]]
    made.append("- " + ", ".join(f"{package} {version}" for package, version in content["versions"].items()))
    return "\n\n".join([*parts, "## What made the numbers", "\n".join(made)]) + "\n"


def _index(preset: str, lines: Sequence[str]) -> str:
    head = ["| experiment | clips | sentence | verdicts |", "|---|---|---|---|"]
    text = (
        f"`python -m ipfvr.reproduce` made the tables (preset {preset}), `python -m ipfvr.report.documents` the pages. "
        "A sentence of the paper holds where the 95 % interval of a paired difference, over people and their clips, "
        "lies on its side; with fewer than four people it is undecided. Compare signs with the paper's, which measured "
        "other people at another size."
    )
    return "\n\n".join(["# Tables and figures", text, "\n".join([*head, *lines])]) + "\n"


def _index_lines(name: str, content: dict[str, Any]) -> list[str]:
    """Return a line for each sentence of an experiment, or one line if it has none."""
    people, clips = (len({cell[part] for cell in content["cells"]}) for part in ("person", "clip"))
    first = [f"[{content['title']}]({name}.md)", counted(people, clips)]
    lines = []
    for claim in content["claims"] or [{"says": "", "differences": []}]:
        counts = count_verdicts([d["verdict"] for d in claim["differences"]])
        verdicts = ", ".join(f"{verdict}: {count}" for verdict, count in counts.items())
        lines.append("| " + " | ".join([*first, claim["says"].replace("|", r"\|"), verdicts]) + " |")
        first = ["", ""]
    return lines


def _title(plot: Path) -> str:
    return plot.stem.replace("_", " ")


def _place(name: str) -> tuple[int, str]:
    return next((place for place, start in enumerate(ORDER) if name.startswith(start)), len(ORDER)), name


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def _write(path: Path, text: str) -> None:
    """Write a page without the name of whose machine it was."""
    with atomic(path) as temporary:
        temporary.write_text(text.replace(str(Path.home()), "~"))


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.report.documents", description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path, help="the folder of the reports, such as runs/reproduce")
    parser.add_argument("folder", type=Path, help="the folder of the pages, such as docs/results")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="the folder of the experiments")
    parser.add_argument("--preset", default="mini", help="the preset of the reports")
    args = parser.parse_args(argv)
    for path in write_documents(args.reports, args.folder, args.experiments, args.preset):
        print(path)


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
