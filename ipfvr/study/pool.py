"""Cells made one after another here, or in processes beside this one that may die without taking it along."""

from __future__ import annotations

import glob
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from tqdm import tqdm

from ipfvr.study.cells import FAILED, NOT_RUN, Cell, Store

MEMORY = 4 << 30  # bytes that a process takes while it trains a LoRA of mini
MOST = 4
GRACE = 60  # seconds that a process has to save what it is at when the one that hired it has gone


def choose_jobs(jobs: int) -> int:
    """``jobs``, or for 0 one a GPU; without GPUs one a core as far as memory goes, at most :data:`MOST`."""
    if jobs > 0:
        return jobs
    if gpus := glob.glob("/dev/nvidia[0-9]*"):
        return len(gpus)
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY
    return max(1, min(len(os.sched_getaffinity(0)), room, MOST))


class Pool:
    """What makes cells: this process, or several beside it, which are started when they are needed and then kept.

    A context manager. With several jobs each is a process with one thread and, where there are GPUs, one of them.

    Args:
        jobs: processes; 1: this one; 0: see :func:`choose_jobs`.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = choose_jobs(jobs)
        self._workers: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
            worker.process.join()

    def make(self, cells: Sequence[Cell], store: Store) -> int:
        """Make what is not there yet, each cell after those it needs, which are made too.

        A cell whose forerunner has failed, or cannot run, is left out for the same reason.

        Returns:
            How many were made or tried.
        """
        todo = [cell for cell in in_order(cells) if not store.finished(cell)]
        for cell in todo:
            store.forget(cell)
        with tqdm(total=len(todo), desc="cells", unit="cell", disable=not todo, leave=False) as bar:
            if self.jobs == 1:
                self._here(todo, store, bar)
            elif todo:
                self._beside(todo, store, bar)
        return len(todo)

    def _here(self, todo: list[Cell], store: Store, bar: tqdm) -> None:
        for cell in todo:
            bar.set_postfix_str(cell.name)
            if not blocked(cell, store):
                from ipfvr.study.work import make_cell

                make_cell(cell, store)
            bar.update()

    def _free(self) -> _Worker | bool | None:
        """A process that waits; False: another may be started; None: all are at work."""
        idle = [worker for worker in self._workers if worker.cell is None]
        return idle[0] if idle else False if len(self._workers) < self.jobs else None

    def _beside(self, todo: list[Cell], store: Store, bar: tqdm) -> None:
        """Give each idle process the next cell whose forerunners are done; a process that dies has failed its cell."""
        waiting, running = {(cell.kind, cell.hash): cell for cell in todo}, set()
        while True:
            while (place := self._free()) is not None and (cell := _ready(waiting, running, store, bar)) is not None:
                worker = place or _hire(len(self._workers))
                self._workers += [] if place else [worker]
                worker.cell = cell
                running.add((cell.kind, cell.hash))
                worker.pipe.send((cell, store))
            busy = [worker for worker in self._workers if worker.cell is not None]
            if not busy:
                return
            happened = set(wait([item for w in busy for item in (w.pipe, w.process.sentinel)]))
            for number, worker in enumerate(self._workers):
                if worker.cell is None or not {worker.pipe, worker.process.sentinel} & happened:
                    continue
                try:
                    worker.pipe.recv()
                    died = False
                except (EOFError, OSError):
                    died = True
                cell, worker.cell = worker.cell, None
                running.discard((cell.kind, cell.hash))
                bar.update()
                bar.set_postfix_str(cell.name)
                if died:
                    worker.process.join()
                    store.fail(cell, FAILED, f"its process ended with code {worker.process.exitcode}")
                    self._workers[number] = _hire(number)


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """The cells and those they need, once each, every one after those it needs."""
    found: dict[tuple[str, str], Cell] = {}

    def add(cell: Cell) -> None:
        if (cell.kind, cell.hash) not in found:
            for before in cell.after:
                add(before)
            found[cell.kind, cell.hash] = cell

    for cell in cells:
        add(cell)
    # Trainings take longest: they are not to begin last.
    return sorted(found.values(), key=lambda cell: cell.kind != "lora")


def blocked(cell: Cell, store: Store) -> bool:
    """Whether a forerunner is not there; the cell is then given its reason."""
    for before in cell.after:
        if not store.finished(before):
            status, reason = store.trouble(before) or (FAILED, "was not made")
            store.fail(cell, status, f"{before.name}: {reason}" if before.kind in ("clips", "lora") else reason)
            return True
    return False


@dataclass
class _Worker:
    process: multiprocessing.Process
    pipe: Connection
    cell: Cell | None = None


def _hire(number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, number, os.getpid()), daemon=True)
    # Numpy's and torch's threads are counted when they are imported.
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    there.close()
    return _Worker(process, here)


def _ready(waiting: dict[tuple[str, str], Cell], running: set[tuple[str, str]], store: Store, bar: tqdm) -> Cell | None:
    """The next cell that nothing has to be waited for, taken out of ``waiting``."""
    for name, cell in list(waiting.items()):
        needed = {(before.kind, before.hash) for before in cell.after}
        if needed & (running | waiting.keys()):
            continue
        del waiting[name]
        if not blocked(cell, store):
            return cell
        bar.update()
    return None


def _end_with(parent: int) -> None:
    """End this process when its parent has gone, however that came about; a training saves what it has at SIGTERM."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def _serve(pipe: Connection, number: int, parent: int) -> None:
    """A process's life: cells come in, and a word goes back for each."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            cell, store = pipe.recv()
        except EOFError:
            return
        import torch

        from ipfvr.study.work import make_cell

        torch.set_num_threads(1)
        count = torch.cuda.device_count()
        make_cell(cell, store, f"cuda:{number % count}" if count else "")
        pipe.send(True)


def outcome(cells: Sequence[Cell], store: Store) -> tuple[list[str], list[str]]:
    """Reasons of the cells that failed, and of those that could not run; each once."""
    failed, not_run = [], []
    for cell in cells:
        status, reason = store.trouble(cell) or ("", "")
        (failed if status == FAILED else not_run if status == NOT_RUN else []).append(reason)
    return list(dict.fromkeys(failed)), list(dict.fromkeys(not_run))
