"""Tasks on one machine or on many. This is the only module that knows the engine, Dask distributed.

A task is a function and its arguments; it may have forerunners, and may want a GPU. One worker on this machine is this
process, and nothing is started. Several are processes of a Dask cluster: of this machine's own, which is started here
and ends with this process, of a scheduler that runs already (``cluster=tcp://host:8786``), or of Slurm
(``cluster=slurm``).

When a worker dies, Dask suspects every task that it has assigned to it. So that a death costs one task alone, a worker
is handed one task at a time; whoever is done first is handed the next, so faster machines get more.
"""

from __future__ import annotations

import glob
import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ipfvr.core.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

_log = logging.getLogger(__name__)

MEMORY = 4 << 30  # bytes that a worker takes while it trains a LoRA of mini
MOST = 4  # workers that are started on a machine without GPUs, unless more are asked for
TRIES_AGAIN = 1  # for a task whose worker died or could not begin it
_LOOKS = 1.0  # seconds between two looks at who has joined the cluster
_PATIENCE = 10  # seconds that a scheduler may take to answer
_ONE_AT_A_TIME = threading.Lock()  # in a worker of several threads: networks are not made to be shared


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
        name: unique among the tasks of a run.
        function: at the top level of a module, so that a worker finds it.
        arguments: of the function; they and its result are pickled.
        after: names of tasks that must have ended before; those that are not among the run's tasks have.
        gpu: whether it computes on a GPU where the cluster has one.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    after: tuple[str, ...] = ()
    gpu: bool = False


@dataclass(frozen=True)
class Lost:
    """The outcome of a task that has no result, because its workers died or could not begin it: why, in one line."""

    reason: str


class Cluster:
    """Who does the tasks: this process, or workers. A context manager; workers are started when there is a task.

    Args:
        workers: on this machine, or jobs of Slurm; 0: see :func:`choose_workers`. A scheduler that runs has its own.
        address: empty: this machine; ``slurm``; else where a Dask scheduler listens, such as ``tcp://host:8786``.
        slurm: options of dask-jobqueue's ``SLURMCluster``, such as ``queue`` and ``walltime``.

    Raises:
        UserError: an address that is none.
    """

    def __init__(self, workers: int = 1, address: str = "", slurm: Mapping[str, Any] | None = None) -> None:
        if address not in ("", "slurm") and "://" not in address:
            raise UserError(f"cluster={address} is no address: write cluster=tcp://host:8786, or cluster=slurm")
        self.workers, self.address, self.slurm = choose_workers(workers), address, dict(slurm or {})
        self._open = ExitStack()
        self._client: Client | None = None

    @property
    def here(self) -> bool:
        """Whether this process does the tasks itself."""
        return not self.address and self.workers == 1

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._client = None
        self._open.close()

    def gives_gpus(self, device: str) -> bool:
        """Return whether tasks that compute on ``device`` are given GPUs.

        Raises:
            UserError: the device is one certain GPU, and there are several workers.
        """
        if device.startswith("cuda:") and not self.here:
            raise UserError(f"device={device} is one GPU, which workers cannot share: write device=cuda")
        return device != "cpu"

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        """Do the tasks.

        Args:
            tasks: each after its forerunners. Of those that can begin, earlier ones do first.

        Yields:
            A task that has ended and its result, or :class:`Lost`. None that comes after it begins before the caller
            asks for the next.

        Raises:
            UserError: there is no such cluster, or its scheduler has gone.
            Exception: what a task raises in this process; of one that raises in a worker the outcome is :class:`Lost`.
        """
        if self.here:
            for task in tasks:
                yield task, task.function(*task.arguments)
        elif tasks:
            yield from self._hand_out(tasks)

    def _hand_out(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        _silence()
        from distributed import CancelledError, wait

        client, waiting, told = self._connected(), {task.name: task for task in tasks}, False
        running: dict[Future, Task] = {}
        try:
            while waiting or running:
                workers = _workers(client)
                if not workers and not told:
                    told = True
                    _log.info("note: nobody works for %s yet; waiting", client.scheduler.address)
                free = len(workers) - len(running)
                gpus = sum(int(worker["resources"].get("GPU", 0)) for worker in workers)
                for task in _ready(waiting, running.values(), free, gpus):
                    del waiting[task.name]
                    running[self._submitted(client, task, gpus > 0)] = task
                if not running:
                    time.sleep(_LOOKS)
                    continue
                try:
                    with client.as_current():
                        done = wait(list(running), _LOOKS, "FIRST_COMPLETED").done
                except TimeoutError:
                    continue
                for future in done:
                    yield running.pop(future), _outcome(future)
        except (OSError, CancelledError):
            self._client = None
            raise UserError("the cluster's scheduler has gone; the same command goes on where it stopped") from None
        finally:
            if self._client is not None:
                client.cancel(list(running))

    def _submitted(self, client: Client, task: Task, gpus: bool) -> Future:
        resources = {"GPU": 1} if task.gpu and gpus else None
        key = f"{task.name}-{uuid4().hex}"
        # As bytes, which the scheduler hands on as they are: it need not import what tasks are made of.
        work = pickle.dumps((task.function, task.arguments))
        return client.submit(_work, os.getcwd(), work, key=key, pure=False, retries=TRIES_AGAIN, resources=resources)

    def _connected(self) -> Client:
        """Return the engine's client; the cluster is started where none runs."""
        if self._client is None:
            from distributed import Client

            where = self.address
            if not where:
                where = self._open.enter_context(_local_cluster(self.workers))
            elif where == "slurm":
                where = self._open.enter_context(_slurm_cluster(self.workers, self.slurm))
            try:
                self._client = self._open.enter_context(Client(where, timeout=_PATIENCE, set_as_default=False))
            except (OSError, ValueError) as error:
                raise UserError(
                    f"no Dask scheduler answers at {where} ({error}): start one with 'dask scheduler'"
                ) from None
        return self._client


def choose_workers(workers: int) -> int:
    """``workers``, or for 0 one a GPU; without GPUs one a core as far as memory goes, at most :data:`MOST`."""
    if workers > 0:
        return workers
    if gpus := visible_gpus():
        return len(gpus)
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY
    return max(1, min(len(os.sched_getaffinity(0)), room, MOST))


def visible_gpus() -> list[str]:
    """This machine's GPUs, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(len(glob.glob("/dev/nvidia[0-9]*")))]


def _ready(waiting: Mapping[str, Task], running: Sequence[Task], free: int, gpus: int) -> list[Task]:
    """The next tasks that nothing has to be waited for, at most ``free``; those for GPUs at most so many at a time."""
    unfinished = waiting.keys() | {task.name for task in running}
    gpus_left = gpus - sum(task.gpu for task in running) if gpus else len(waiting)
    found: list[Task] = []
    for task in waiting.values():
        if len(found) >= free:
            break
        if unfinished.isdisjoint(task.after) and (not task.gpu or gpus_left > 0):
            found.append(task)
            gpus_left -= task.gpu
    return found


def _work(folder: str, work: bytes) -> Any:
    """In a worker: do a task, pickled, in the folder that its paths are relative to."""
    with _ONE_AT_A_TIME:
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(f"the worker on {socket.gethostname()} has no folder {folder}: {error.strerror}") from None
        function, arguments = pickle.loads(work)
        return function(*arguments)


def _workers(client: Client) -> list[dict[str, Any]]:
    """Return what the scheduler knows of each worker; an OSError: the client has just lost the scheduler."""
    known = client.scheduler_info(n_workers=-1)
    if "workers" not in known:
        raise ConnectionError
    return list(known["workers"].values())


def _outcome(future: Future) -> Any:
    """Return the result of a task that has ended in a worker, or :class:`Lost`."""
    from distributed import KilledWorker

    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KilledWorker):
        where, tries = error.last_worker.address, error.allowed_failures + 1
        return Lost(f"its worker died, each of {tries} times, last at {where}: is there memory for so many workers?")
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return Lost(kind + " ".join(str(error).split()))


def _silence() -> None:
    """Silence the messages of Dask about itself; callers report the outcome of tasks."""
    import dask

    names = ("distributed", "distributed.client", "distributed.gc")
    dask.config.set({"logging": dict.fromkeys(names, "critical")})


def _local_cluster(workers: int) -> Any:
    """Start a scheduler in this process and workers beside it: one thread each, a share of the cores, one GPU."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    # Numpy's and torch's threads are counted when they are imported.
    share = max(1, len(os.sched_getaffinity(0)) // workers)
    threads = {name: os.environ.get(name, share) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    dask.config.set({"distributed.nanny.pre-spawn-environ": threads})
    gpus, local = visible_gpus(), {"host": "127.0.0.1"}
    # Dask would pause and kill workers that take more memory than their share.
    common = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, **local}
    own = [
        {"env": {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}, "resources": {"GPU": 1}} if gpus else {}
        for number in range(workers)
    ]
    quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    return SpecCluster(
        {number: {"cls": Nanny, "options": {**common, **options}} for number, options in enumerate(own)},
        {"cls": Scheduler, "options": {"port": 0, "allowed_failures": TRIES_AGAIN, **quiet, **local}},
        silence_logs=logging.CRITICAL,
    )


def _slurm_cluster(jobs: int, options: dict[str, Any]) -> Any:
    """Start a scheduler in this process, and jobs of Slurm that work for it, one worker each.

    Raises:
        UserError: dask-jobqueue is not installed, or does not take the options.
    """
    import dask

    try:
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError:
        raise UserError("cluster=slurm needs dask-jobqueue: pip install 'ipfvr[slurm]'") from None
    default = {"cores": 1, "processes": 1, "memory": "8GiB"}  # where neither the options nor jobqueue.yaml say it
    given = {key: value for key, value in default.items() if not dask.config.get(f"jobqueue.slurm.{key}")} | options
    given["scheduler_options"] = {"allowed_failures": TRIES_AGAIN} | given.get("scheduler_options", {})
    more = given.get("worker_extra_args") or dask.config.get("jobqueue.slurm.worker-extra-args") or []
    given["worker_extra_args"] = [*more, "--memory-limit", "0"]  # Slurm's own limit is enough
    try:
        cluster = SLURMCluster(**given)
        cluster.scale(jobs=jobs)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise UserError(f"Slurm's jobs cannot be started with slurm={options}: {error}") from None
    return cluster
