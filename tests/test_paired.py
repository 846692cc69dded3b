"""Test sets: two ways to a low-quality clip agree, levels, what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ipfvr.core.cluster import Cluster
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.data.paired import FolderData, FosvData, PairedClip, YouRefData
from ipfvr.degradation.pipeline import degrade
from ipfvr.study.cells import Store
from ipfvr.study.make import make_cells
from ipfvr.study.people import SAMPLE, write_sample
from ipfvr.study.plan import find_clips, plan_clips, plan_low, sharp_folder
from ipfvr.study.schema import load_study
from ipfvr.study.work import read_frames

TINY = ["preset=tiny", "device=cpu", "data.scene_frames=18"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person of the embedded sample, and somebody else with the same scene."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ipfvr.study.people.SAMPLE_FRAMES", 48)
        write_sample(folder, [SAMPLE])
    shutil.copytree(folder / SAMPLE, folder / "other")
    return folder


def items(data: FolderData) -> list[PairedClip]:
    """What the loader gives."""
    data.setup("test")
    return list(data.test_dataloader())


def test_the_tables_and_the_data_module_make_the_same_clips(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("title: t\nrows: {Input: {method: bicubic}}\ntiny: {clips: 2, frames: 6}\n")
    given = [*TINY, f"data.root={root}", f"output={tmp_path / 'out'}", f"people=[{SAMPLE}]"]
    study = load_study(file, given)
    data = YouRefData(study.config(), "heavy", [SAMPLE], clips=2)
    store = Store(study.store)
    scenes = plan_clips(study, data.people)
    make_cells([cell for _, cell in scenes], store, Cluster())
    clips = find_clips(scenes, store)
    lows = [plan_low(study.config(), clip, "heavy", store, study) for clip in clips]
    make_cells(lows, store, Cluster())
    found = items(data)
    assert [item.name for item in found] == [clip.name for clip in clips] == ["astronaut_test_0", "astronaut_test_1"]
    assert found[0].parameters != found[1].parameters, "each clip is degraded by a draw of its own"
    for item, clip, low in zip(found, clips, lows, strict=True):
        assert np.array_equal(item.sharp, read_frames(sharp_folder(clip, store)))
        assert np.array_equal(item.low, read_frames(store.folder(low) / "frames"))
        assert np.array_equal(item.low, degrade(item.sharp, item.parameters))
        assert item.references == clip.person.references
        assert item.fps == 24


def test_levels_differ_and_a_real_clip_has_no_truth(root: Path) -> None:
    config = load_config(None, [*TINY, f"data.root={root}"])
    light, heavy = (items(YouRefData(config, level, [SAMPLE]))[0] for level in ("light", "heavy"))
    (real,) = items(FosvData(config, [SAMPLE]))
    assert not np.array_equal(light.low, heavy.low)
    assert np.array_equal(light.sharp, heavy.sharp)
    assert real.sharp is None
    assert real.parameters is None
    assert np.array_equal(real.low, heavy.sharp)
    assert [item.identity for item in items(FolderData(config))] == [SAMPLE, "other"]


def test_what_is_not_there_is_one_line(root: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, f"data.root={root}"])
    with pytest.raises(UserError, match="YouRefData has no level 'severe': use light, heavy"):
        YouRefData(config, "severe")
    with pytest.raises(UserError, match="no eve in"):
        FolderData(config, people=["eve"])
    with pytest.raises(UserError, match="is not a folder"):
        FolderData(load_config(None, [*TINY, f"data.root={tmp_path / 'none'}"]))
