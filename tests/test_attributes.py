"""MOON's objective, the attribute network, its training, and the emotion network."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from ipfvr.conditioning.attribute_network import AttributeNetwork, AttributeReader, load_attributes
from ipfvr.conditioning.attributes import WORDS, read_attributes
from ipfvr.conditioning.emotion import EMOTIONS, MiniXception, from_keras, grey_square, load_emotion
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.training.attributes import (
    STORE,
    Batches,
    augment,
    balanced_accuracy,
    labelled_pictures,
    moon_loss,
    moon_weights,
    plain,
    positive_shares,
    target_shares,
)
from ipfvr.training.run import fit

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
EMOTION_FILE = SHARED / "weights" / "emotion" / "fer2013_mini_XCEPTION.102-0.66.hdf5"


def labels_of(shares: list[float], count: int = 200) -> torch.Tensor:
    """Labels (count, 40) of which the given shares are present, again and again."""
    rows = torch.arange(count)[:, None]
    wanted = torch.tensor((shares * 40)[:40]) * count
    return torch.where(rows < wanted, 1.0, -1.0)


def test_moon_is_the_sum_that_the_paper_writes():
    torch.manual_seed(0)
    labels = labels_of([0.1, 0.5, 0.85, 0.02])
    source = positive_shares(labels)
    target = torch.rand(40) * 0.8 + 0.1
    outputs = torch.randn(200, 40)
    total = 0.0
    for x, y in zip(outputs.double(), labels, strict=True):
        for i in range(40):
            s, t = (float(v[i]) for v in (source, target))
            if y[i] > 0:
                p = 1.0 if t > s else (1 - s) * t / (s * (1 - t))
            else:
                p = 1.0 if t < s else s * (1 - t) / ((1 - s) * t)
            total += p * (float(x[i]) - float(y[i])) ** 2
    assert float(moon_loss(outputs, labels, moon_weights(source, target))) == pytest.approx(total / 8000, rel=1e-5)


def test_weights_turn_the_source_into_the_target():
    labels = labels_of([0.05, 0.3, 0.9])
    source = positive_shares(labels)
    for balance in (0.0, 0.5, 1.0):
        target = target_shares(source, balance)
        absent, present = moon_weights(source, target)
        share = source * present / (source * present + (1 - source) * absent)
        assert torch.allclose(share, target, atol=1e-5)
        assert torch.allclose(torch.maximum(absent, present), torch.ones(40))
    assert torch.allclose(target_shares(source, 1.0), torch.full((40,), 0.5))


def test_a_source_like_the_target_is_plain_squared_error():
    labels, outputs = labels_of([0.5]), torch.randn(200, 40)
    plain_error = ((outputs - labels) ** 2).mean()
    for balance in (0.0, 0.7, 1.0):  # a balanced source is every target between
        source = positive_shares(labels)
        weights = moon_weights(source, target_shares(source, balance))
        assert torch.allclose(moon_loss(outputs, labels, weights), plain_error)
    rare = positive_shares(labels_of([0.03]))
    assert torch.allclose(moon_weights(rare, target_shares(rare, 0.0)), torch.ones(2, 40))


def test_what_minimises_the_loss_gives_the_shares_back():
    """Faces that cannot be told apart: the best output, turned into a probability, is the attribute's share."""
    labels = labels_of([0.04, 0.25, 0.7, 0.95])
    network = AttributeNetwork()
    for balance in (0.0, 0.5, 1.0):
        source = positive_shares(labels)
        network.source.copy_(source)
        network.target.copy_(target_shares(source, balance))
        weights = moon_weights(source, network.target)
        output = torch.zeros(40, requires_grad=True)
        optimizer = torch.optim.LBFGS([output], max_iter=100, tolerance_grad=1e-9)

        def closure(weights=weights, output=output, optimizer=optimizer):
            optimizer.zero_grad()
            loss = 40 * moon_loss(output.expand(200, 40), labels, weights)
            loss.backward()
            return loss

        optimizer.step(closure)
        assert torch.allclose(network.probabilities(output.detach()), source, atol=2e-3)
        assert torch.allclose(network.balanced(output.detach()), torch.full((40,), 0.5), atol=2e-2)


def test_balanced_accuracy_of_guessing_is_a_half():
    labels = labels_of([0.1, 0.9])
    assert torch.allclose(balanced_accuracy(torch.zeros(200, 40, dtype=torch.bool), labels), torch.full((40,), 0.5))
    assert torch.allclose(balanced_accuracy(labels > 0, labels), torch.ones(40))
    assert balanced_accuracy(labels > 0, torch.ones(200, 40)).isnan().all()


def test_network_is_small_and_sees_light_but_not_a_mirror():
    torch.manual_seed(0)
    network = AttributeNetwork().eval()
    assert sum(p.numel() for p in network.parameters()) <= 2.5e6
    face = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    reader = AttributeReader(network, Path())
    one, mirrored = reader.read([face]), reader.read([face[:, ::-1]])
    assert list(one) == list(WORDS)
    assert one == pytest.approx(mirrored, abs=1e-6)
    assert reader.read([face, 255 - face]) != pytest.approx(one, abs=1e-6)
    with pytest.raises(ValueError, match="at least one"):
        reader.read([])


def test_augmentation_keeps_range_shape_and_seed():
    pixels = torch.rand(10, 3, STORE, STORE) * 2 - 1
    first, again, other = (augment(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (10, 3, 96, 96)
    assert float(first.abs().max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_batches_depend_on_the_seed_and_their_number_alone():
    pictures = torch.randint(0, 255, (6, 3, STORE, STORE), dtype=torch.uint8)
    labels = labels_of([0.5], 6)
    whole = list(islice(Batches(pictures, labels, 4, seed=3), 3))
    resumed = next(iter(Batches(pictures, labels, 4, seed=3, start=2)))
    assert all(torch.equal(resumed[key], whole[2][key]) for key in resumed)
    assert not torch.equal(whole[0]["faces"], whole[1]["faces"])


@pytest.fixture(scope="module")
def faces_root(tmp_path_factory):
    """Twelve people with one picture each: bright ones smile, red ones are young."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    with (root / "attributes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", *WORDS])
        for number in range(12):
            bright, red = number % 2 == 0, number % 3 == 0
            image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8) + np.uint8(150 if bright else 20)
            image[..., 2] = 250 if red else 10  # of BGR
            folder = root / f"p{number:02}" / "reference"
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "a.png"), image)
            truth = {"Smiling": bright, "Young": red}
            table.writerow([f"set/p{number:02}/a.png", *(1 if truth.get(n) else -1 for n in WORDS)])
    (root / "heldout.yaml").write_text("identities: [p00, p01]\n")
    return root


def settings(root: Path, *pairs: str):
    fixed = ["preset=tiny", "train.module=attributes", f"data.root={root}", f"data.captions=[{root}/attributes.csv]"]
    fixed += [f"data.heldout={root}/heldout.yaml", "data.batch_size=8", "train.wandb=disabled"]
    return load_config(None, [*fixed, "train.accelerator=cpu", "train.precision=fp32", *pairs])


def test_people_held_out_are_left_out(faces_root):
    config = settings(faces_root)
    pictures, labels, files = labelled_pictures(config, held=False)
    assert pictures.shape == (10, 3, STORE, STORE)
    assert labels.shape == (10, 40)
    assert {f.parent.parent.name for f in files}.isdisjoint({"p00", "p01"})
    assert len(labelled_pictures(config, held=True)[2]) == 2
    config.data.captions = []
    with pytest.raises(UserError, match=r"data\.captions"):
        labelled_pictures(config, held=False)


def test_training_through_fit_and_back(faces_root, tmp_path):
    config = settings(faces_root, f"train.output={tmp_path}", "optimizer.steps=2", "train.validate_every=2")
    file = fit(config) / "attributes.safetensors"
    reader = load_attributes(file)
    labels = labelled_pictures(config, held=False)[1]
    assert torch.allclose(reader.network.source, positive_shares(labels), atol=1e-3)
    assert not torch.allclose(reader.network.target, reader.network.source, atol=1e-3)
    face = np.full((64, 64, 3), 128, np.uint8)
    assert all(0 < p < 1 for p in reader.read([face]).values())


def test_network_learns_light_and_colour(faces_root):
    torch.manual_seed(0)
    pictures, labels, _ = labelled_pictures(settings(faces_root), held=False)
    network = AttributeNetwork()
    source = positive_shares(labels)
    weights = moon_weights(source, target_shares(source, 0.5))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    network.train()
    for _ in range(15):
        loss = moon_loss(network(plain(pictures)), labels, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    chosen = [list(WORDS).index(name) for name in ("Smiling", "Young")]
    assert torch.equal(network(plain(pictures))[:, chosen] > 0, labels[:, chosen] > 0)


def test_shipped_network_beats_guessing_on_people_held_out():
    table, root = SHARED / "images" / "celeba256" / "attributes.csv", SHARED / "images" / "celeba256"
    if not table.is_file():
        pytest.skip("the labelled pictures of ../shared/data are not here")
    rows = {key: row for key, row in read_attributes(table).items() if key.startswith(("ca010", "ca020", "ca030"))}
    reader = load_attributes("mini/attributes")
    from ipfvr.video.reader import read_image

    said = torch.tensor([list(reader.read([read_image(root / key)]).values()) for key in rows]) > 0.5
    true = torch.tensor([list(row.values()) for row in rows.values()])
    guess = (reader.network.source > 0.5).expand_as(true)
    assert len(true) >= 10
    assert (said == true).float().mean() > (guess == true).float().mean() + 0.03
    index = list(WORDS).index("Male")
    assert (said == true)[:, index].float().mean() > 0.85


def keras_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays with the names and the shapes of Keras's mini_XCEPTION."""
    rng = np.random.default_rng(seed)
    shapes = {"conv2d_1/kernel": (3, 3, 1, 8), "conv2d_2/kernel": (3, 3, 8, 8)}
    shapes |= {"conv2d_7/kernel": (3, 3, 128, 7), "conv2d_7/bias": (7,)}
    norms = {1: 8, 2: 8}
    for block, (width, out) in enumerate([(8, 16), (16, 32), (32, 64), (64, 128)]):
        shapes[f"conv2d_{block + 3}/kernel"] = (1, 1, width, out)
        for number, into in ((2 * block + 1, width), (2 * block + 2, out)):
            shapes[f"separable_conv2d_{number}/depthwise_kernel"] = (3, 3, into, 1)
            shapes[f"separable_conv2d_{number}/pointwise_kernel"] = (1, 1, into, out)
        norms |= {3 * block + n: out for n in (3, 4, 5)}
    arrays = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    arrays["conv2d_7/kernel"] /= 100  # no emotion is certain
    for number, width in norms.items():
        for kind in ("gamma", "beta", "moving_mean", "moving_variance"):
            arrays[f"batch_normalization_{number}/{kind}"] = rng.uniform(0.5, 1.5, width)
    return arrays


def in_numpy(arrays: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """mini_XCEPTION by its definition in Keras, one grey picture (64, 64) at a time."""

    def conv(x, kernel, stride=1, valid=False):
        maps = [
            sum(correlate(x[..., i], kernel[..., i, o], mode="constant") for i in range(kernel.shape[2]))
            for o in range(kernel.shape[3])
        ]
        y = np.stack(maps, axis=-1)[::stride, ::stride]
        return y[1:-1, 1:-1] if valid else y

    def separable(x, name):
        depthwise, pointwise = arrays[name + "/depthwise_kernel"], arrays[name + "/pointwise_kernel"]
        maps = [correlate(x[..., i], depthwise[..., i, 0], mode="constant") for i in range(x.shape[-1])]
        return np.stack(maps, axis=-1) @ pointwise[0, 0]

    def norm(x, number):
        gamma, beta, mean, variance = (
            arrays[f"batch_normalization_{number}/{k}"] for k in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    def pool(x):
        side = x.shape[0]
        out = -(-side // 2)
        before = max((out - 1) * 2 + 3 - side, 0) // 2  # TensorFlow's 'same'
        rows = [range(max(0, 2 * k - before), min(side, 2 * k - before + 3)) for k in range(out)]
        return np.stack([np.stack([x[np.ix_(r, c)].max(axis=(0, 1)) for c in rows]) for r in rows])

    x = image[..., None]
    for n in (1, 2):
        x = np.maximum(norm(conv(x, arrays[f"conv2d_{n}/kernel"], valid=True), n), 0)
    for block in range(4):
        short = norm(conv(x, arrays[f"conv2d_{block + 3}/kernel"], stride=2), 3 * block + 3)
        x = np.maximum(norm(separable(x, f"separable_conv2d_{2 * block + 1}"), 3 * block + 4), 0)
        x = pool(norm(separable(x, f"separable_conv2d_{2 * block + 2}"), 3 * block + 5)) + short
    scores = (conv(x, arrays["conv2d_7/kernel"]) + arrays["conv2d_7/bias"]).mean(axis=(0, 1))
    odds = np.exp(scores - scores.max())
    return odds / odds.sum()


def test_mini_xception_is_what_keras_computes():
    arrays, network = keras_arrays(), MiniXception()
    network.load_state_dict(from_keras(arrays, network, "file"))
    image = np.random.default_rng(1).uniform(-1, 1, (64, 64))
    expected = in_numpy(arrays, image)
    got = network.double().eval()(torch.from_numpy(image)[None, None])[0].detach().numpy()
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-7)
    assert expected.max() < 0.999  # and the comparison says something


def test_every_array_is_accounted_for():
    network = MiniXception()
    for change, message in (
        (lambda a: a.pop("conv2d_4/kernel"), "'conv2d_4/kernel' is missing"),
        (lambda a: a.update({"dense_1/kernel": np.zeros((2, 2))}), "'dense_1/kernel' is left over"),
        (lambda a: a.update({"conv2d_7/bias": np.zeros(8)}), "'conv2d_7/bias' has another shape"),
    ):
        arrays = keras_arrays()
        change(arrays)
        with pytest.raises(UserError, match=message):
            from_keras(arrays, network, "file")


def test_emotion_file_is_read_whole_or_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    arrays, path = keras_arrays(), tmp_path / "emotion.hdf5"
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            layer, _, kind = name.partition("/")
            file[f"model_weights/{layer}/{layer}_1/{kind}:0"] = array
    emotions = load_emotion(path).read([np.full((90, 90, 3), 90, np.uint8)])
    assert tuple(emotions) == EMOTIONS
    assert sum(emotions.values()) == pytest.approx(1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a whole hdf5"):
        load_emotion(path)


def test_the_square_is_the_middle_of_the_crop_at_any_size():
    small, large = (np.zeros((side, side, 3), np.uint8) for side in (128, 256))
    for image in (small, large):
        image[int(0.3 * len(image)) : int(0.5 * len(image))] = 200
    assert np.abs(grey_square(small).astype(int) - grey_square(large)).mean() < 3
    assert grey_square(large).shape == (64, 64)


def test_smiling_people_look_happy():
    pytest.importorskip("h5py")
    table = SHARED / "images" / "celeba256" / "attributes.csv"
    if not table.is_file() or not EMOTION_FILE.is_file():
        pytest.skip("the labelled pictures or the emotion weights of ../shared/data are not here")
    from ipfvr.video.reader import read_image

    reader = load_emotion(EMOTION_FILE)
    happy = {True: [], False: []}
    for key, row in list(read_attributes(table).items())[::20]:
        emotions = reader.read([read_image(SHARED / "images" / "celeba256" / key)])
        happy[row["Smiling"]].append(max(emotions, key=emotions.get) == "happy")
    assert np.mean(happy[True]) > 0.8
    assert np.mean(happy[False]) < 0.25
