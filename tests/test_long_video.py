"""Theorems about what ties clips together: Eq. 9 and 10, the cross-fade, and what is remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import LongVideoConfig
from ipfvr.diffusion.long_video import (
    ClipMemory,
    LongVideo,
    cross_fade,
    exponential_blending,
    make_long_video,
    plan_windows,
)
from ipfvr.diffusion.noise import frame_noise
from ipfvr.diffusion.solvers import State
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.clips import ClipWindow, clip_windows

F, O = 24, 8  # noqa: E741 (the paper's names)


def ramp(clip: int, start: int = 0, frames: int = F) -> Tensor:
    """A latent whose every frame holds 1000 x clip + the frame's number, counted from ``start``."""
    numbers = torch.arange(start, start + frames, dtype=torch.float64) + 1000 * clip
    return numbers.view(1, 1, -1, 1, 1).repeat(1, 2, 1, 3, 3)


def numbers(z: Tensor) -> list[int]:
    assert (z == z[:, :1, :, :1, :1]).all()
    return z[0, 0, :, 0, 0].int().tolist()


# Eq. 10


def test_eq_10_by_hand():
    """F = 24, O = 8: frame 24 of clip i-3, 23-24 of clip i-2, 21-24 of clip i-1, counted from 1 as the paper does."""
    blended = numbers(exponential_blending(ramp(4, 1), [ramp(1, 1), ramp(2, 1), ramp(3, 1)], context=O))
    assert blended[:7] == [1024, 2023, 2024, 3021, 3022, 3023, 3024]
    assert blended[7:] == list(range(4008, 4025))
    # The last frames alone of each clip are enough.
    tails = [ramp(clip, 21, 4) for clip in (1, 2, 3)]
    assert numbers(exponential_blending(ramp(4, 1), tails, context=O)) == blended


@pytest.mark.parametrize("stages", [0, 1, 2, 4])
def test_the_positions_are_those_of_any_power_of_two(stages):
    earlier = [ramp(clip, 1, 2 ** (stages - 1)) for clip in range(1, stages + 1)]
    blended = numbers(exponential_blending(ramp(9, 1), earlier, context=2**stages))
    taken = [
        1000 * (j + 1) + n for j in range(stages) for n in range(2 ** (stages - 1) - 2**j + 1, 2 ** (stages - 1) + 1)
    ]
    assert blended == taken + list(range(9000 + 2**stages, 9025))


def test_aligned_lays_the_clip_before_over_itself():
    """On a ramp of the video's frame numbers; to the letter they lie one frame early."""
    windows = clip_windows(16 * 4 + 8, F, O)
    clips = [ramp(0, w.start) for w in windows]
    aligned, letter = (numbers(exponential_blending(clips[3], clips[:3], O, shift)) for shift in (1, 0))
    assert aligned[3:] == numbers(clips[3])[3:]
    assert [number - own for number, own in zip(letter, numbers(clips[3]), strict=True)][3:] == [1] * 4 + [0] * 17
    # The two clips before that show earlier moments, in rising order all the same.
    assert aligned[:3] == [windows[0].stop - 2, windows[1].stop - 3, windows[1].stop - 2]


@pytest.mark.parametrize("frames", [50, 57, 63])
def test_a_last_clip_that_starts_earlier_is_blended_before_what_it_keeps(frames):
    last = clip_windows(frames, F, O)[-1]
    context = last.keep_start - last.start
    assert context > O
    before = clip_windows(frames, F, O)[-2]
    clip, earlier = ramp(0, last.start), [None, None, ramp(0, before.start)]
    assert torch.equal(exponential_blending(clip, earlier, context, shift=1), clip)
    letter = numbers(exponential_blending(clip, earlier, context))
    assert [place for place, number in enumerate(letter) if number != last.start + place] == [
        *range(context - 5, context - 1)
    ]


def test_clips_that_do_not_exist_leave_their_positions_alone():
    own = ramp(4, 1)
    assert torch.equal(exponential_blending(own, [None] * 3, context=O), own)
    assert numbers(exponential_blending(own, [None, None, ramp(3, 1)], context=O))[:7] == [
        *range(4001, 4004),
        *range(3021, 3025),
    ]


def test_clips_that_are_equal_stay_as_they_are():
    still = torch.randn(1, 2, 1, 3, 3, dtype=torch.float64).expand(-1, -1, F, -1, -1)
    assert torch.equal(exponential_blending(still, [still] * 3, context=O), still)


def test_every_clip_is_given_what_the_ones_before_held_after_the_same_step():
    """Through the recursion: what a clip was given is not handed on, its own last frames are."""
    long_video, memory = LongVideo("exponential", True, O), ClipMemory()
    for clip in range(1, 7):
        for step in (0, 1, 2):
            own = ramp(clip, 100 * step + 1)
            state = long_video.blend(State(own, own + 0.25), step, memory, O if clip > 1 else 0)
            expected = numbers(own)
            for back, places in ((3, [0]), (2, [1, 2]), (1, [3, 4, 5, 6])):
                for place, frame in zip(places, range(F - len(places) + 1, F + 1), strict=True):
                    if clip > back:
                        expected[place] = 1000 * (clip - back) + 100 * step + frame
            assert numbers(state.x) == expected
            # A multi-step solver's history is of the same frames.
            assert torch.equal(state.denoised, state.x + 0.25)


def test_the_memory_does_not_grow():
    long_video, memory, sizes = LongVideo("aligned", True, O), ClipMemory(), []
    for clip in range(12):
        for step in (0, 1):
            long_video.blend(State(ramp(clip), ramp(clip)), step, memory, O if clip else 0)
        sizes.append(memory.size)
    frame, steps, kept = ramp(0, 0, 1).nbytes, 2, O // 2 + 1
    assert sizes == [2 * frame * steps * kept * min(clips, 3) for clips in range(1, 13)]
    # Not as views, which would keep whole clips.
    assert all(s.x.untyped_storage().nbytes() == kept * frame for states in memory.steps for s in states)


@pytest.mark.parametrize(
    ("options", "overlap", "says"),
    [
        ({}, 6, "video.overlap is 6.*power of two"),
        ({"blending": "aligned"}, 12, "video.overlap is 12.*aligned"),
    ],
)
def test_options_without_meaning(options, overlap, says):
    with pytest.raises(UserError, match=says):
        make_long_video(LongVideoConfig(**options), overlap)


def test_any_overlap_goes_without_exponential_blending():
    for blending, overlap in (("cross_fade", 6), ("none", 6), ("exponential", 0), ("exponential", 1)):
        long_video = make_long_video(LongVideoConfig(blending), overlap)
        assert long_video.reach == 0
        own = State(ramp(1))
        assert long_video.blend(own, 0, ClipMemory(), overlap) is own


# Cross-fade


def test_a_cross_fade_is_linear_and_of_equal_frames_nothing():
    black, white = np.zeros((4, 2, 2, 3), np.uint8), np.full((4, 2, 2, 3), 250, np.uint8)
    assert cross_fade(black, white)[:, 0, 0, 0].tolist() == [50, 100, 150, 200]
    assert np.array_equal(cross_fade(black, white), cross_fade(white, black)[::-1])
    picture = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    assert np.array_equal(cross_fade(picture, picture), picture)


@pytest.mark.parametrize("blending", ["cross_fade", "none"])
@pytest.mark.parametrize("overlap", [0, 1, 3, 5])
def test_every_frame_comes_out_once(blending, overlap):
    for frames in range(1, 40):
        windows = [
            ClipWindow(start + w.start, start + w.stop, start + w.keep_start)
            for start in (0, frames)
            for w in clip_windows(frames, 6, overlap)
        ]
        parts = LongVideo(blending, True, overlap).parts(windows)
        assert [i for part in parts for i in range(*part)] == list(range(2 * frames))
        assert all(w.start <= a and b <= w.stop for w, (a, b) in zip(windows, parts, strict=True))


def test_a_frame_of_three_clips_is_faded_twice():
    """The last clip begins where the one before it was still faded in; no frame is lost, equal ones stay equal."""
    windows = clip_windows(11, 6, 3)
    assert windows[2].start < windows[1].start + 3
    long_video, memory, out = LongVideo("cross_fade", True, 3), ClipMemory(), []
    video = np.random.default_rng(0).integers(0, 256, (11, 2, 2, 3), dtype=np.uint8)
    for window, part in zip(windows, long_video.parts(windows), strict=True):
        out.append(long_video.join(video[window.start : window.stop], window, part, memory))
    assert np.array_equal(np.concatenate(out), video)
    assert memory.tail is None


# Eq. 9


def test_overlapping_frames_have_the_same_noise_unless_told_otherwise():
    shared, own = (LongVideo("none", sharing, O) for sharing in (True, False))
    first, second = range(F), range(F - O, 2 * F - O)

    def noise(long_video: LongVideo, frames: range, rho: float = 0.0) -> Tensor:
        return frame_noise((2, 3, 3), 0, frames, 1, rho, clip=long_video.noise_key(frames))

    for rho in (0.0, 0.5):
        assert torch.equal(noise(shared, first, rho)[:, -O:], noise(shared, second, rho)[:, :O])
        a, b = (noise(own, frames, rho) for frames in (first, second))
        assert not torch.isclose(a[:, -O:], b[:, :O]).any()
        assert torch.equal(a, noise(own, first, rho))
        assert (a - noise(shared, first, rho)).abs().min() > 0


# In a restoration


def restorer(*pairs: str) -> Restorer:
    made = Restorer(load_config(None, ["preset=tiny", "sampler.steps=3", "video.overlap=4", *pairs]))
    torch.manual_seed(1)
    for parameter in made.networks.denoiser.parameters():  # layers that begin at zero would keep frames apart
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return made


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (17, 16, 16, 3), dtype=np.uint8)


SEGMENTS = [(0, 11), (11, 17)]  # clips of 6 with 4 shared: 0-6, 2-8, 4-10, 5-11; 11-17


def stream(made: Restorer, crops: np.ndarray, segments: list = SEGMENTS, part=None) -> dict[int, np.ndarray]:
    out = list(made.restore_stream(enumerate(crops), plan_windows(segments, made.config, part), made.conditions()))
    indices = [index for index, _ in out]
    assert indices == sorted(set(indices))
    return dict(out)


@pytest.mark.parametrize("blending", ["exponential", "aligned", "cross_fade", "none"])
def test_segments_do_not_see_each_other_and_parts_are_the_whole(crops, blending):
    made = restorer(f"long_video.blending={blending}")
    whole = stream(made, crops)
    assert list(whole) == list(range(17))
    other = crops.copy()
    other[:11] = 255 - other[:11]
    changed = stream(made, other)
    assert not np.array_equal(changed[10], whole[10])
    assert all(np.array_equal(changed[i], whole[i]) for i in range(11, 17))
    for part in ((0, 7), (7, 9), (9, 13)):
        some = stream(made, crops, part=part)
        assert all(np.array_equal(some[i], whole[i]) for i in range(*part))


def test_what_blending_changes(crops):
    """None is each clip by itself; the first clip is the same in all; Eq. 10 reaches the frames that are kept."""
    made = restorer("long_video.blending=none")
    none = stream(made, crops)
    for window in plan_windows(SEGMENTS, made.config):
        frames = range(window.start, window.stop)
        alone = made.restore(crops[window.start : window.stop], made.conditions(), frames)
        for index in range(window.keep_start, window.stop):
            assert np.array_equal(none[index], alone[index - window.start])
    for blending in ("exponential", "aligned"):
        blended = stream(restorer(f"long_video.blending={blending}"), crops)
        same = [i for i in none if np.array_equal(none[i], blended[i])]
        assert same == [*range(6), *range(11, 17)]
        one_step = [f"long_video.blending={blending}", "sampler.steps=1"]
        unblended = stream(restorer("long_video.blending=none", "sampler.steps=1"), crops)
        assert all(np.array_equal(unblended[i], image) for i, image in stream(restorer(*one_step), crops).items())
    faded = stream(restorer("long_video.blending=cross_fade"), crops)
    # Of the first segment's frames only those before any overlap are of one clip alone, and its last.
    assert [i for i in none if np.array_equal(none[i], faded[i])] == [0, 1, 10, *range(11, 17)]
    apart = stream(restorer("long_video.blending=none", "long_video.noise_sharing=false"), crops)
    assert not any(np.array_equal(apart[i], none[i]) for i in none)


@pytest.mark.parametrize("blending", ["exponential", "aligned", "cross_fade"])
def test_a_video_goes_on_after_any_clip_in_the_same_bytes(crops, tmp_path: Path, blending: str) -> None:
    made = restorer(f"long_video.blending={blending}", "sampler.eta=1")
    windows, conditions = plan_windows(SEGMENTS, made.config), made.conditions()
    whole, memory, saved = {}, ClipMemory(), []
    for index, image in made.restore_stream(enumerate(crops), windows, conditions, memory=memory):
        whole[index] = image
        if index + 1 == memory.next_frame:
            saved.append(tmp_path / f"{memory.done}.safetensors")
            memory.save(saved[-1])
    assert len(saved) == len(windows) == 5
    for clip, path in enumerate(saved, 1):
        loaded = ClipMemory.load(path)
        assert loaded.done == clip
        first, begin = loaded.next_frame, windows[clip].start if clip < len(windows) else 17
        source = ((i, crops[i]) for i in range(begin, 17))
        rest = dict(made.restore_stream(source, windows, conditions, memory=loaded))
        assert list(rest) == list(range(first, 17))
        assert all(np.array_equal(rest[i], whole[i]) for i in rest)
        # ... and remembers what the undisturbed run remembers.
        assert (loaded.done, loaded.next_frame, loaded.size) == (memory.done, memory.next_frame, memory.size)


def test_a_memory_that_does_not_belong(crops, tmp_path: Path) -> None:
    made = restorer()
    windows = plan_windows(SEGMENTS, made.config)
    for memory in (ClipMemory(done=9, next_frame=17), ClipMemory(done=1, next_frame=5)):
        with pytest.raises(UserError, match="does not belong"):
            next(made.restore_stream(enumerate(crops), windows, made.conditions(), memory=memory))
    file = tmp_path / "memory.safetensors"
    with pytest.raises(UserError, match="cannot be read"):
        ClipMemory.load(file)
    file.write_bytes(b"not tensors")
    with pytest.raises(UserError, match="cannot be read"):
        ClipMemory.load(file)
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="not a clip memory"):
        ClipMemory.load(file)
