"""Cells are made: each after those it needs, by whoever the cluster has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from ipfvr.core.cluster import Cluster, Lost, Task
from ipfvr.core.files import alone
from ipfvr.core.messages import progress_bar
from ipfvr.core.progress import read_progress
from ipfvr.study.cells import FAILED, NOT_RUN, Cell, Store

_ON_GPU = ("lora", "restored", "scores")  # the kinds of cells that networks are run for


def make_cells(
    cells: Sequence[Cell],
    store: Store,
    cluster: Cluster,
    device: str = "auto",
    ended: Callable[[Cell], None] | None = None,
) -> int:
    """Make what is not there yet, each cell after those it needs, which are made too.

    A cell whose forerunner has failed, or cannot run, is left out for the same reason.

    Args:
        cells: wanted.
        store: gets them.
        cluster: makes them.
        device: that the cells are configured for.
        ended: called after each cell, whether it is there or has failed.

    Returns:
        How many were made or tried.
    """
    todo = {_name(cell): cell for cell in in_order(cells, bool(cluster.address)) if not store.finished(cell)}
    for cell in todo.values():
        store.forget(cell)
    gpu = cluster.gives_gpus(device)
    tasks = [
        Task(name, _make, (cell, store), tuple(map(_name, cell.after)), gpu and cell.kind in _ON_GPU)
        for name, cell in todo.items()
    ]
    with progress_bar(len(tasks), "cells", "cell", shown=bool(tasks)) as bar, shown_steps(bar, todo.values(), store):
        for task, outcome in cluster.run(tasks):
            cell = todo[task.name]
            if isinstance(outcome, Lost):
                store.fail(cell, FAILED, outcome.reason)
            bar.set_postfix_str(cell.name)
            bar.update()
            if ended is not None:
                ended(cell)
    return len(tasks)


@contextmanager
def shown_steps(bar: tqdm, cells: Iterable[Cell], store: Store, every: float = 2.0) -> Iterator[None]:
    """Show inside the block how far the LoRAs are that are being trained, here or by a worker.

    Args:
        bar: shows it.
        cells: that are made.
        store: in whose temporary folders the trainings say it.
        every: seconds between two looks.
    """
    loras, ended = [cell for cell in cells if cell.kind == "lora"], threading.Event()

    def look() -> None:
        while not ended.wait(every):
            said = {cell.name: read_progress(store.partial(cell)) for cell in loras}
            if lines := [f"{name}: {line}" for name, line in said.items() if line]:
                bar.set_postfix_str("; ".join(lines))

    thread = threading.Thread(target=look, daemon=True)
    if loras:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if loras:
            thread.join()


def _name(cell: Cell) -> str:
    return f"{cell.kind}-{cell.hash}"


def _make(cell: Cell, store: Store) -> None:
    """Make one cell, unless a cell that it needs is missing. This is a task of the cluster."""
    with alone(store.folder(cell)):
        if store.finished(cell) or blocked(cell, store):
            return
        from ipfvr.study import work

        work.make_cell(cell, store)


def in_order(cells: Sequence[Cell], trainings_first: bool) -> list[Cell]:
    """Return the cells and those they need, once each, every one after those it needs.

    Args:
        cells: wanted.
        trainings_first: other machines share the cells: trainings take longest, so they must not begin last. Else
            whoever waits sees the first numbers soon, and trainings come last.
    """
    found: dict[tuple[str, str], Cell] = {}

    def add(cell: Cell) -> None:
        if (cell.kind, cell.hash) not in found:
            for before in cell.after:
                add(before)
            found[cell.kind, cell.hash] = cell

    for cell in cells:
        add(cell)
    if trainings_first:
        return sorted(found.values(), key=lambda cell: cell.kind != "lora")
    return sorted(found.values(), key=_needs_training)


def _needs_training(cell: Cell) -> bool:
    return cell.kind == "lora" or any(map(_needs_training, cell.after))


def blocked(cell: Cell, store: Store) -> bool:
    """Return whether a cell that is needed is missing; the cell is then given its reason."""
    for before in cell.after:
        if not store.finished(before):
            status, reason = store.trouble(before) or (FAILED, "was not made")
            store.fail(cell, status, f"{before.name}: {reason}" if before.kind in ("clips", "lora") else reason)
            return True
    return False


def outcome(cells: Sequence[Cell], store: Store) -> tuple[list[str], list[str]]:
    """Reasons of the cells that failed, and of those that could not run; each once."""
    failed, not_run = [], []
    for cell in cells:
        status, reason = store.trouble(cell) or ("", "")
        (failed if status == FAILED else not_run if status == NOT_RUN else []).append(reason)
    return list(dict.fromkeys(failed)), list(dict.fromkeys(not_run))
