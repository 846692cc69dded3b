"""When a training writes its checkpoint and its weights, when it stops, and what it goes on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor
from safetensors.torch import load_file

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.data.sample import sample_clip
from ipfvr.fit import main
from ipfvr.training.callbacks import ExportWeights, WholeCheckpoints
from ipfvr.training.clip import ClipTraining
from ipfvr.training.common import Trained
from ipfvr.training.extensions import extensions
from ipfvr.training.vae import CodecTraining
from ipfvr.video.writer import write_picture

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people with two pictures each, one of them held out."""
    root = tmp_path_factory.mktemp("data")
    frames = sample_clip(4, 40)
    for number, name in enumerate(("anna", "carl")):
        for i in range(2):
            write_picture(root / name / "reference" / f"{i}.png", frames[2 * number + i])
    (root / "heldout.yaml").write_text("identities: [carl]\n")
    (root / "one.yaml").write_text("preset: tiny\ndata: {batch_size: 2, captions: []}\n")
    return root


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Lightning ignores further Ctrl-C after the first one; give them back to pytest."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def command(root: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--config", str(root / "one.yaml"), f"data.root={root}", f"data.heldout={root / 'heldout.yaml'}"),
        *(f"train.output={output}", "train.wandb=disabled", "train.precision=fp32", "train.accelerator=cpu"),
        *("train.module=clip", "train.validation_batches=0", "train.log_every=1", "train.validate_every=1"),
        *more,
    ]


def last(output: Path) -> dict:
    return torch.load(output / "checkpoints" / "last.ckpt", weights_only=False)


def failing(step: Callable, number: int, error: BaseException) -> Callable:
    """A training step that fails at its n-th batch."""

    def run(module: Trained, batch: dict, index: int) -> object:
        if module.global_step == number:
            raise error
        return step(module, batch, index)

    return run


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_a_training_that_is_stopped_loses_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ctrl_c: None, error: BaseException
) -> None:
    """Its checkpoint is of the step before; resumed, it ends with the weights of one that was stopped in order."""
    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(ClipTraining, "training_step", failing(ClipTraining.training_step, 2, error))
        with pytest.raises(type(error)):
            main(command(root, stopped, "optimizer.steps=4"))
    assert last(stopped)["global_step"] == 2
    assert (stopped / "weights" / "text.safetensors").is_file()
    again = tmp_path / "again"  # the same checkpoint, by its path
    main(command(root, again, "optimizer.steps=4", f"train.ckpt_path={stopped / 'checkpoints' / 'last.ckpt'}"))
    main(command(root, stopped, "optimizer.steps=4"))
    assert last(stopped)["global_step"] == last(again)["global_step"] == 4
    ours, theirs = (load_file(folder / "weights" / "text.safetensors") for folder in (stopped, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_failure_before_the_first_step_leaves_the_checkpoint_as_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(command(root, tmp_path, "optimizer.steps=1"))
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr(ClipTraining, "on_load_checkpoint", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(command(root, tmp_path, "optimizer.steps=2"))
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("module", ["clip", "vae"])  # vae optimizes by hand, two optimizers in turn
def test_checkpoints_are_written_by_the_clock(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    written = []
    monkeypatch.setattr(
        ExportWeights, "on_save_checkpoint", lambda _, trainer, *__: written.append(trainer.global_step)
    )
    monkeypatch.setattr(CodecTraining, "on_fit_start", lambda self: None)
    common = [f"train.module={module}", "loss.adversarial=0.01", "optimizer.steps=3"]
    steps = 2 if module == "vae" else 1
    (tmp_path / "weights").mkdir()  # which nobody exports here
    main(command(root, tmp_path, *common, "train.checkpoint_minutes=0"))
    assert written == [steps, 2 * steps, 3 * steps, 3 * steps]  # three by the clock, one at the end
    written.clear()
    main([*command(root, tmp_path, *common), "--restart"])
    assert written == [3 * steps]


def test_a_trial_run_writes_no_weights(root: Path, tmp_path: Path) -> None:
    main(command(root, tmp_path, "optimizer.steps=50", "trainer.fast_dev_run=true"))
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "weights").exists()


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WholeCheckpoints().save_checkpoint({"global_step": 1}, tmp_path / "last.ckpt")

    def torn(content: dict, file: object) -> None:
        file.write(b"half")
        raise OSError("the disk is gone")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="gone"):
        WholeCheckpoints().save_checkpoint({"global_step": 2}, tmp_path / "last.ckpt")
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt") == {"global_step": 1}


def test_minutes_count_over_a_resume(root: Path, tmp_path: Path) -> None:
    """The second command has no time left: it trains nothing. A third, with more, goes on where the rate was."""
    common = command(root, tmp_path, "optimizer.steps=1000", "optimizer.warmup=0")
    main([*common, "train.minutes=0.0001"])
    first = last(tmp_path)
    assert 0 < first["global_step"] < 1000
    main([*common, "train.minutes=0.0001"])
    assert last(tmp_path)["global_step"] == first["global_step"]
    spent = first["callbacks"]["Timer"]["time_elapsed"]["train"]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClipTraining, "training_step", lambda module, *_: (seen.append(module.done()), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            main([*common, f"train.minutes={10 * spent / 60}"])
    assert 0.1 <= seen[0] < 0.9


def test_the_best_weights_are_kept_beside_the_last(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation is best after the first of three steps."""
    monkeypatch.setattr(
        ClipTraining, "validation_step", lambda self, *_: self.log("val/score", float(-self.global_step), batch_size=1)
    )
    best, first = tmp_path / "run", tmp_path / "first"
    main(command(root, best, "optimizer.steps=3", "train.validation_batches=1", "train.monitor=val/score"))
    assert torch.load(best / "checkpoints" / "best.ckpt", weights_only=False)["global_step"] == 1
    main(
        command(
            root,
            first,
            "optimizer.steps=3",
            "train.validation_batches=1",
            "train.monitor=val/score",
            "train.monitor_mode=min",
        )
    )
    assert torch.load(first / "checkpoints" / "best.ckpt", weights_only=False)["global_step"] == 3
    kept, lasting = (load_file(best / folder / "text.safetensors") for folder in ("best", "weights"))
    assert any(not torch.equal(kept[name], lasting[name]) for name in kept)
    same, again = (load_file(first / folder / "text.safetensors") for folder in ("best", "weights"))
    assert all(torch.equal(same[name], again[name]) for name in same)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["train.monitor=val/nothing"], "val/nothing"),
        (["train.ckpt_path=nowhere.ckpt"], r"nowhere\.ckpt is not a file"),
        (["trainer.strategy=nonsense"], "Lightning: .*nonsense"),
        (
            ["trainer.callbacks=[EarlyStoping]"],
            r"trainer\.callbacks: no class EarlyStoping .* nearest is EarlyStopping",
        ),
        (["trainer.callbacks=[{class_path: EarlyStopping}]"], "EarlyStopping cannot be made: .*monitor"),
        (["trainer.logger={name: x}"], r"trainer\.logger: .*class_path"),
    ],
)
def test_what_a_user_can_get_wrong(root: Path, tmp_path: Path, more: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        main(command(root, tmp_path, "optimizer.steps=1", *more))


def test_callbacks_and_loggers_of_lightning_by_name(root: Path, tmp_path: Path) -> None:
    first, second = extensions(
        "callbacks", ["LearningRateMonitor", {"class_path": "EarlyStopping", "init_args": {"monitor": "loss"}}]
    )
    assert isinstance(first, LearningRateMonitor)
    assert isinstance(second, EarlyStopping)
    assert second.monitor == "loss"
    assert extensions("logger", False) == extensions("callbacks", None) == []
    logger = f"{{class_path: pytorch_lightning.loggers.CSVLogger, init_args: {{save_dir: {tmp_path / 'mine'}}}}}"
    main(
        command(
            root, tmp_path, "optimizer.steps=2", f"trainer.logger={logger}", "trainer.callbacks=[LearningRateMonitor]"
        )
    )
    for folder in (tmp_path / "log" / "from_0", tmp_path / "mine" / "lightning_logs" / "version_0"):
        assert "lr-AdamW" in (folder / "metrics.csv").read_text()


def test_two_processes_save_and_stop_together(root: Path, tmp_path: Path) -> None:
    """Each saves when the first one's clock says so, and ends when it does: none waits for the other for ever."""
    pairs = ["optimizer.steps=100000", "train.minutes=0.02", "train.checkpoint_minutes=0.005"]
    pairs += ["train.devices=2", "trainer.strategy=ddp_fork"]
    run = subprocess.run(
        [sys.executable, "-m", "ipfvr.fit", *command(root, tmp_path, *pairs)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert 0 < last(tmp_path)["global_step"] < 100000
    assert load_file(tmp_path / "weights" / "text.safetensors")
    assert run.stderr.count("weights: ") == 1


def test_processes_draw_different_noise() -> None:
    def noise(rank: int) -> torch.Tensor:
        torch.manual_seed(7)
        module = Trained(load_config(None, ["preset=tiny"]))
        module._trainer = SimpleNamespace(global_rank=rank)
        module.on_train_start()
        return torch.randn(4)

    torch.manual_seed(7)
    assert torch.equal(noise(0), torch.randn(4, generator=torch.Generator().manual_seed(7)))  # as one process draws it
    assert not torch.equal(noise(0), noise(1))
    assert not torch.equal(noise(1), noise(2))
    assert torch.equal(noise(1), noise(1))
