"""Tasks on workers: what a death costs, who waits for whom, and what a user is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipfvr.core import cluster as engine
from ipfvr.core.cluster import Cluster, Lost, Task
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import alone
from ipfvr.restore import main
from ipfvr.study.cells import Cell, Store
from ipfvr.study.make import make_cells

TESTS = Path(__file__).parent
PATIENCE = 60


# ------------------------------------------------- what workers do


def note(folder: Path, name: str, result: object = None) -> object:
    """Leave a file that says when the task began and ended, and in which process."""
    began = time.time()
    time.sleep(float(os.environ.get("TEST_SLOWNESS", "0.05")))
    (folder / f"{name}.{time.time_ns()}").write_text(f"{began} {time.time()} {os.getpid()}")
    return result


def wait_to_be_killed(folder: Path) -> str:
    """The first time: wait; the second time: do it."""
    mine = folder / "victim"
    if mine.exists():
        return "done again"
    partial = folder / "partial"
    partial.write_text(str(os.getpid()))
    partial.rename(mine)
    time.sleep(PATIENCE)
    return "nobody came"


def setting(name: str) -> str:
    time.sleep(0.3)
    return os.environ.get(name, "")


def fail(message: str) -> None:
    raise ValueError(message)


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple:
        return os._exit, (7,)


# ------------------------------------------------- who does it


def until(happened) -> object:
    """What ``happened`` gives once it gives something."""
    last = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < last
        time.sleep(0.05)
    return found


def notes_of(folder: Path) -> dict[str, list[tuple[float, float, int]]]:
    """By task: (began, ended, process) of every time that it was done."""
    found: dict[str, list] = {}
    for path in sorted(folder.glob("*.*")):
        began, ended, process = path.read_text().split()
        found.setdefault(path.stem, []).append((float(began), float(ended), int(process)))
    return found


@pytest.fixture(scope="module")
def local() -> Iterator[Cluster]:
    """Two workers of this machine, which believes that it has GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        with Cluster(0) as cluster:
            assert (cluster.workers, cluster.here) == (2, False)
            list(cluster.run([Task("first", setting, ("x",))]))
            yield cluster


def started(kind: str, *words: str, **environment: str) -> subprocess.Popen:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class ByHand:
    """A scheduler and two workers, each a process that somebody has started in a shell; the first has a GPU."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        plain = ["--no-dashboard", "--host", "127.0.0.1"]
        self.scheduler = started("scheduler", *plain, "--port", str(port))
        self.workers = [
            started("worker", self.address, "--no-nanny", "--nthreads", "1", *plain, *more, TEST_SLOWNESS=slowness)
            for more, slowness in ((["--resources", "GPU=1"], "0.05"), ([], "0.7"))
        ]

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def by_hand() -> Iterator[ByHand]:
    processes = ByHand()
    yield processes
    processes.end()


# ------------------------------------------------- tests


def test_one_worker_is_this_process_and_nothing_is_started() -> None:
    code = (
        "import sys, os\nfrom ipfvr.core.cluster import Cluster, Task\n"
        "with Cluster(1) as cluster:\n"
        "    (pair,) = cluster.run([Task('t', os.getpid, ())])\n"
        "assert pair[1] == os.getpid()\n"
        "with Cluster(2) as cluster:\n"
        "    assert list(cluster.run([])) == []\n"
        "print({'dask', 'distributed'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
    with pytest.raises(ValueError, match="at once"), Cluster(1) as cluster:
        list(cluster.run([Task("t", fail, ("at once",))]))


def test_a_worker_killed_in_the_middle_costs_its_task_alone(local: Cluster, tmp_path: Path) -> None:
    others = [Task(f"other{n}", note, (tmp_path, f"other{n}", n)) for n in range(4)]
    outcomes = {}
    for task, outcome in local.run([Task("long", wait_to_be_killed, (tmp_path,)), *others]):
        if not outcomes:
            os.kill(int(until((tmp_path / "victim").exists) and (tmp_path / "victim").read_text()), signal.SIGKILL)
        outcomes[task.name] = outcome
    assert outcomes == {"long": "done again", **{f"other{n}": n for n in range(4)}}
    assert [len(times) for times in notes_of(tmp_path).values()] == [1] * 4, "none of the others was done again"


def test_what_kills_its_workers_fails_alone(local: Cluster, tmp_path: Path) -> None:
    others = [Task(f"other{n}", note, (tmp_path, f"other{n}", n)) for n in range(4)]
    outcomes = {task.name: outcome for task, outcome in local.run([Task("deadly", os._exit, (7,)), *others])}
    lost = outcomes.pop("deadly")
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("its worker died, each of 2 times, last at tcp://127.0.0.1:")
    assert outcomes == {f"other{n}": n for n in range(4)}


def test_a_cell_that_kills_its_workers_takes_those_after_it(local: Cluster, tmp_path: Path) -> None:
    store = Store(tmp_path)
    deadly = Cell("low", "deadly", {"n": 0}, {"x": Deadly()})
    after = Cell("scores", "after it", {"n": 1}, {}, (deadly,))
    assert make_cells([after], store, local) == 2
    for cell in (deadly, after):
        status, reason = store.trouble(cell)
        assert (status, reason.partition(", last")[0]) == ("failed", "its worker died, each of 2 times")


def test_a_cell_that_another_process_makes_is_waited_for(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), Cell("low", "cell", {"n": 0}, {"sharp": str(tmp_path / "nothing")})
    other = threading.Thread(target=make_cells, args=([cell], store, Cluster()))
    with alone(store.folder(cell)):
        other.start()
        time.sleep(0.3)
        assert other.is_alive()
        store.finish(cell, store.begin(cell), {"made": "here"})
    other.join()
    assert store.record(cell)["made"] == "here"


def test_nothing_begins_before_its_forerunners_have_ended(local: Cluster, tmp_path: Path) -> None:
    after = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("long ago",)}
    seen = [task.name for task, _ in local.run([Task(n, note, (tmp_path, n), before) for n, before in after.items()])]
    times = {name: once for name, (once,) in notes_of(tmp_path).items()}
    assert sorted(seen) == sorted(times) == list(after)
    for name, befores in after.items():
        for before in set(befores) & set(after):
            assert seen.index(before) < seen.index(name)
            assert times[before][1] <= times[name][0]


def test_each_local_worker_has_a_gpu_and_a_share_of_the_cores(local: Cluster, monkeypatch) -> None:
    tasks = [Task(f"gpu{n}", setting, ("CUDA_VISIBLE_DEVICES",), gpu=True) for n in range(4)]
    assert {outcome for _, outcome in local.run(tasks)} == {"3", "5"}
    share = os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // 2)))
    assert [outcome for _, outcome in local.run([Task("threads", setting, ("OMP_NUM_THREADS",))])] == [share]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert 1 <= engine.choose_workers(0) <= engine.MOST


def test_a_scheduler_and_workers_started_by_hand(by_hand: ByHand, tmp_path: Path) -> None:
    """The quicker does more; GPUs are where GPUs are; an error is one line; who is killed is done without."""
    with Cluster(1, by_hand.address) as cluster:
        until(lambda: len(cluster._connected().scheduler_info()["workers"]) == 2)
        tasks = [Task(f"t{n}", note, (tmp_path, f"t{n}", n)) for n in range(8)]
        assert sorted(outcome for _, outcome in cluster.run(tasks)) == list(range(8))
        fast, slow = (worker.pid for worker in by_hand.workers)
        done_by = [once[2] for (once,) in notes_of(tmp_path).values()]
        assert done_by.count(fast) > done_by.count(slow) >= 1
        on_gpu = [Task(f"gpu{n}", note, (tmp_path, f"gpu{n}"), gpu=True) for n in range(3)]
        list(cluster.run([*on_gpu, Task("bad", fail, ("two\nlines",))]))
        assert {notes_of(tmp_path)[task.name][0][2] for task in on_gpu} == {fast}
        ((_, lost),) = cluster.run([Task("bad", fail, ("two\nlines",))])
        assert lost == Lost("ValueError: two lines")
        outcomes = {}
        for task, outcome in cluster.run([Task("long", wait_to_be_killed, (tmp_path,)), *tasks[:3]]):
            if not outcomes:
                until((tmp_path / "victim").exists)
                os.kill(int((tmp_path / "victim").read_text()), signal.SIGKILL)
            outcomes[task.name] = outcome
        assert outcomes == {"long": "done again", "t0": 0, "t1": 1, "t2": 2}
        assert len(notes_of(tmp_path)["t0"]) == 2, "once in each run"


def test_a_scheduler_that_goes_is_one_line(by_hand: ByHand, tmp_path: Path) -> None:
    tasks = [Task("quick", note, (tmp_path, "quick")), Task("long", wait_to_be_killed, (tmp_path,))]
    with Cluster(1, by_hand.address) as cluster:
        outcomes = cluster.run(tasks)
        next(outcomes)
        by_hand.scheduler.kill()
        with pytest.raises(UserError, match="scheduler has gone; the same command goes on"):
            next(outcomes)


def test_a_scheduler_that_has_just_gone_is_one_line(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the loss of the connection and the loss of the tasks the client knows of no workers at all."""
    from distributed import Client

    monkeypatch.setattr(Client, "scheduler_info", lambda self, n_workers: {"type": "Scheduler"})
    with pytest.raises(UserError, match="scheduler has gone"), Cluster(1, by_hand.address) as cluster:
        list(cluster.run([Task("t", os.getpid, ())]))


def test_what_is_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("t", os.getpid, ())
    with pytest.raises(UserError, match=r"cluster=here is no address: write cluster=tcp://host:8786"):
        Cluster(1, "here")
    monkeypatch.setattr(engine, "_PATIENCE", 0.2)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9") as found:
        list(Cluster(1, "tcp://127.0.0.1:9").run([task]))
    assert "\n" not in str(found.value)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UserError, match=r"needs dask-jobqueue: pip install 'ipfvr\[slurm\]'"):
        list(Cluster(1, "slurm").run([task]))
    with pytest.raises(UserError, match="device=cuda:1 is one GPU"):
        Cluster(2).gives_gpus("cuda:1")
    assert Cluster(1).gives_gpus("cuda:1")
    assert not Cluster(2).gives_gpus("cpu")


def test_the_verb_says_in_one_line_what_is_wrong_with_the_cluster(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(engine, "_PATIENCE", 0.2)
    (tmp_path / "in").mkdir()
    film = tmp_path / "in" / "film.mp4"
    film.write_bytes(b"a film")
    for source, address, says in (
        (film, "tcp://127.0.0.1:9", "error: cluster=tcp://127.0.0.1:9 is for many videos: give a folder"),
        (film.parent, "tcp://127.0.0.1:9", "error: no Dask scheduler answers at tcp://127.0.0.1:9"),
        (film.parent, "127.0.0.1:9", "error: cluster=127.0.0.1:9 is no address: write cluster=tcp://host:8786"),
    ):
        output = tmp_path / ("out.mp4" if source == film else "out")
        assert run_verb(main, [str(source), "--output", str(output), f"cluster={address}", "preset=tiny"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(says)


def test_jobs_of_slurm_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With programs in place of Slurm's: sbatch runs a copy of the script, which dask-jobqueue removes, at once."""
    pytest.importorskip("dask_jobqueue")
    sbatch = '#!/bin/sh\ncp "$1" "$TEST_SCRIPT"\nsh "$TEST_SCRIPT" >/dev/null 2>&1 &\necho "Submitted batch job $!"\n'
    for name, text in (("sbatch", sbatch), ("scancel", '#!/bin/sh\nkill "$1"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    monkeypatch.setenv("TEST_SCRIPT", str(tmp_path / "script"))
    with pytest.raises(UserError, match=r"cannot be started with slurm=.*'quue'"):
        list(Cluster(1, "slurm", {"quue": "long"}).run([Task("t", os.getpid, ())]))
    with Cluster(1, "slurm", {"queue": "long", "walltime": "04:00:00", "interface": "lo"}) as cluster:
        ((_, outcome),) = cluster.run([Task("t", note, (tmp_path, "t", "from a job"))])
    assert outcome == "from a job"
    script = (tmp_path / "script").read_text()
    assert "#SBATCH -p long" in script
    assert "#SBATCH -t 04:00:00" in script


def test_workers_end_with_who_has_started_them(tmp_path: Path) -> None:
    """Though that was killed and could not tell them."""
    script = tmp_path / "start.py"
    script.write_text(
        "import os, signal\nfrom ipfvr.core.cluster import Cluster, Task\n"
        "if __name__ == '__main__':\n"
        "    ((_, pid),) = Cluster(2).run([Task('t', os.getpid, ())])\n"
        "    print(pid, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL, found.stderr
    status = Path(f"/proc/{int(found.stdout)}/stat")
    until(lambda: not status.exists() or status.read_text().split()[2] == "Z")
