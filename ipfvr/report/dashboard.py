"""The W&B dashboard of an experiment as code: a workspace and a report, first as plain values.

``python -m ipfvr.report.dashboard runs/reproduce/table1_mini/dashboard.json --entity ME`` publishes them, with
``pip install 'ipfvr[dashboard]'``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ipfvr.core.errors import UserError, run_verb
from ipfvr.report.sentences import conclusions
from ipfvr.report.tables import footnotes, markdown_table
from ipfvr.study.results import Results


def dashboard(results: Results, project: str) -> dict[str, Any]:
    """Describe the sections of the workspace and the blocks of the report as JSON values.

    A panel is ``bars`` (one metric with one bar for each row, the mean of its runs), ``lines`` (over ``frame``, one
    line for each row) or ``media``. :func:`ipfvr.report.wandb_log.log_row` logs every metric that a panel names.
    """
    scored = [key for key in results.columns if any(line.summaries[key] for line in results.lines)]
    bars = [{"kind": "bars", "title": results.label(key).heading, "metrics": [key]} for key in scored]
    framed = sorted({key for cell in results.cells for key in cell["per_frame"]} & set(results.columns))
    lines = [
        {
            "kind": "lines",
            "title": f"{results.label(key).title} over frames",
            "x": "frame",
            "metrics": [f"frames/{key}"],
        }
        for key in framed
    ]
    clips = list(dict.fromkeys(cell["clip"] for cell in results.cells))
    media = [{"kind": "media", "title": "Clips", "metrics": [f"videos/{clip}" for clip in clips]}] if clips else []
    sections = [
        {"name": name, "panels": panels}
        for name, panels in (("Scores", bars), ("Frames", lines), ("Clips", media))
        if panels
    ]
    blocks = [
        {"kind": "heading", "text": results.title},
        {"kind": "markdown", "text": markdown_table(results)},
        *({"kind": "text", "text": text} for text in conclusions(results)),
        {"kind": "panels", "panels": [*bars, *lines]},
        *({"kind": "text", "text": text} for text in footnotes(results)),
    ]
    return {
        "project": project,
        "group": results.name,
        "workspace": {"name": f"{results.name} ({results.preset})", "sections": sections},
        "report": {"title": results.title, "blocks": blocks},
    }


def publish(spec: dict[str, Any], entity: str) -> list[str]:
    """Save the workspace and the report to W&B, and return their addresses.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    workspace, report = build(spec, entity)
    workspace.save()
    report.save()
    return [workspace.url, report.url]


def build(spec: dict[str, Any], entity: str) -> tuple[Any, Any]:
    """Build the library's workspace and report from a :func:`dashboard`; nothing is sent.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise UserError("the dashboard needs wandb-workspaces: pip install 'ipfvr[dashboard]'") from None
    project, chosen = spec["project"], f"Group = '{spec['group']}'"
    by_row = {"groupby": wr.Config("row"), "groupby_aggfunc": "mean"}

    def panel(values: dict[str, Any]) -> Any:
        if values["kind"] == "lines":
            return wr.LinePlot(title=values["title"], x=values["x"], y=values["metrics"], **by_row)
        if values["kind"] == "bars":
            return wr.BarPlot(title=values["title"], metrics=values["metrics"], **by_row)
        return wr.MediaBrowser(title=values["title"], media_keys=values["metrics"])

    def block(values: dict[str, Any]) -> Any:
        if values["kind"] == "panels":
            runs = wr.Runset(entity=entity, project=project, name=spec["group"], filters=chosen)
            return wr.PanelGrid(runsets=[runs], panels=[panel(p) for p in values["panels"]])
        kinds = {"heading": wr.H1, "markdown": wr.MarkdownBlock, "text": wr.P}
        return kinds[values["kind"]](text=values["text"])

    sections = [
        ws.Section(name=s["name"], panels=[panel(p) for p in s["panels"]], is_open=True)
        for s in spec["workspace"]["sections"]
    ]
    workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=spec["workspace"]["name"],
        sections=sections,
        runset_settings=ws.RunsetSettings(filters=chosen),
    )
    blocks = [block(b) for b in spec["report"]["blocks"]]
    return workspace, wr.Report(entity=entity, project=project, title=spec["report"]["title"], blocks=blocks)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.report.dashboard", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the dashboard.json of a report's folder")
    parser.add_argument("--entity", required=True, help="your W&B user or team")
    args = parser.parse_args(argv)
    if not args.file.is_file():
        raise UserError(f"there is no {args.file}; python -m ipfvr.reproduce writes it beside index.html")
    for address in publish(json.loads(args.file.read_text()), args.entity):
        print(address)


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
