"""The verb ``describe``, and what ``restore`` does with a description."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from ipfvr.conditioning.attributes import WORDS
from ipfvr.conditioning.prompt_file import read_prompt
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.data.sample import sample_clip
from ipfvr.describe import main
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.restore import main as restore_main
from ipfvr.video.writer import VideoWriter

SHIPPED = "faces.detector=centerface"  # needs no file


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "astronaut.png"
    cv2.imwrite(str(path), skimage.data.astronaut()[..., ::-1])
    return path


@pytest.fixture(scope="module")
def low(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("low") / "low.mp4"
    with VideoWriter(path, 16, 16, 25, crf=0) as writer:
        for frame in sample_clip(7, 16):
            writer.write(np.ascontiguousarray(frame))
    return path


def test_describe_prints_everything_and_writes_what_restore_takes(picture, low, tmp_path, capsys):
    file = tmp_path / "prompt.yaml"
    main([str(picture), "--output", str(file), SHIPPED])
    out = capsys.readouterr().out
    assert all(name in out for name in WORDS)
    assert "positive prompt," in out
    assert "of 77 tokens:" in out
    assert "emotion: " in out
    assert len(read_prompt(file).attributes) > 20
    # The words are the user's to change.
    lines = [line for line in file.read_text().splitlines() if "Male:" not in line and "Eyeglasses:" not in line]
    file.write_text("\n".join(lines).replace("attributes:", "attributes:\n  Male: false\n  Eyeglasses: true", 1))

    output = tmp_path / "restored.mp4"
    arguments = [str(low), "--aligned", "--prompt", str(file), "--output", str(output)]
    restore_main([*arguments, "preset=tiny", "text.max_length=400"])
    report = json.loads(output.with_suffix(".json").read_text())
    assert report["words"]["attributes"]["Male"] == 0
    assert report["words"]["positive"].startswith(("a woman", "a young woman"))
    assert "eyeglasses" in report["words"]["positive"]
    assert report["configuration"]["prompt"]["positive"] == report["words"]["positive"]


def test_the_words_of_a_reference_reach_the_restoration(picture, low, tmp_path):
    config = load_config(None, ["preset=tiny", SHIPPED, "weights.emotion=''"])
    job = Job(low, tmp_path / "a.mp4", (picture,), aligned=True)
    report = restore(job, config)
    assert set(report["words"]["attributes"]) == set(WORDS)
    assert len(report["weights"]["attributes"]["sha256"]) == 64
    assert report["configuration"]["prompt"]["positive"] != config.prompt.positive
    config = load_config(None, ["preset=tiny", SHIPPED, "prompt.describe=false"])
    report = restore(job, config)
    assert report["words"] == {}
    assert report["configuration"]["prompt"]["positive"] == config.prompt.positive


def test_a_wrong_prompt_is_refused_before_anything_is_made(picture, low, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text("attributes: {Smilling: true}\n")
    with pytest.raises(UserError, match="nearest of CelebA's 40 is 'Smiling'"):
        restore_main([str(low), "--aligned", "--prompt", str(file), "--output", str(tmp_path / "b.mp4"), "preset=tiny"])
    assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(UserError, match="Smilling"):
        main([str(picture), f"prompt.file={file}", SHIPPED])
    with pytest.raises(UserError, match="no picture"):
        main([SHIPPED])
