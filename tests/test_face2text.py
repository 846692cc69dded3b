"""From attributes to words: what is said, what is not, within the encoder's length, by template or language model."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from ipfvr.conditioning import face2text
from ipfvr.conditioning.attributes import EXPRESSIONS, WORDS, compose_sentence, false_words
from ipfvr.conditioning.face2text import describe, with_words
from ipfvr.conditioning.language import missing_phrases
from ipfvr.conditioning.prompt_file import PromptFile, find_prompt, read_by_hand, read_prompt, write_prompt
from ipfvr.conditioning.words import NEVER_READ, ORDER, Description, compose, count_tokens, make_tokenizer
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config


def config(*pairs: str, preset: str = "mini") -> Config:
    return load_config(None, [f"preset={preset}", *pairs])


def person(**truths: bool) -> Description:
    return Description(attributes={name: 0.97 if true else 0.03 for name, true in truths.items()})


WOMAN = person(Male=False, Young=True, Smiling=True, Brown_Hair=True, Eyeglasses=False, Mustache=False, Bald=False)
ALL_TRUE = Description(attributes=dict.fromkeys(WORDS, 1.0))  # by hand: the network never says some of them
ALL_FALSE = person(**dict.fromkeys(WORDS, False))


def random_person(seed: int) -> Description:
    rng = np.random.default_rng(seed)
    return Description(attributes=dict(zip(WORDS, rng.uniform(0, 1, 40).tolist(), strict=True)))


def test_a_sentence_is_the_caption_of_the_training():
    truths = {"Brown_Hair": True, "Male": False, "Mustache": False, "Smiling": True, "Young": True}
    caption = "a young woman, smiling, with brown hair"
    assert compose_sentence(truths) == caption
    assert compose(person(**truths), config()).positive == caption
    said = compose_sentence(truths, "surprise", ["speaking"], "a scar on the chin")
    assert said == caption + ", looking surprised, speaking, a scar on the chin"


def test_false_attributes_are_denied_and_true_ones_are_not():
    prompts = compose(WOMAN, config())
    assert prompts.negative.startswith("man, bald, eyeglasses, ")
    assert prompts.negative.endswith(config().prompt.negative)
    assert prompts.denied == ["Male", "Bald", "Eyeglasses"]
    assert prompts.implied == ["Mustache"]  # of a woman
    assert set(prompts.said) == {"Male", "Young", "Smiling", "Brown_Hair"}
    assert "brown hair" not in prompts.negative


def test_what_tells_nothing_is_not_denied():
    bald = false_words({"Bald": True, "Male": True, "Black_Hair": False, "Goatee": False, "Wearing_Lipstick": False})
    assert bald == {"Goatee": "goatee"}
    assert "Attractive" not in false_words(dict.fromkeys(WORDS, False))
    assert "No_Beard" not in false_words({"No_Beard": False})
    assert false_words({"Oval_Face": False, "Big_Nose": False}) == {"Oval_Face": "oval face", "Big_Nose": "big nose"}


@pytest.mark.parametrize("preset", ["mini", "tiny"])
@pytest.mark.parametrize("quality", ["", "cinematic, high contrast, highly detailed"])
def test_no_attribute_is_lost_silently_and_all_fits(preset, quality):
    settings = config(f"prompt.quality='{quality}'", preset=preset)
    tokenizer = make_tokenizer(settings)
    for description in [ALL_TRUE, ALL_FALSE, WOMAN, *(random_person(seed) for seed in range(4))]:
        prompts = compose(description, settings)
        lists = [prompts.said, prompts.denied, prompts.unsure, prompts.implied, *prompts.dropped.values()]
        found = [name for names in lists for name in names if name in WORDS]
        # Who it is, is said when it is false, too: 'woman' above, 'man' below.
        assert sorted(set(found)) == sorted(description.attributes)
        assert [n for n in found if found.count(n) > 1] in ([], ["Male", "Male"])
        for stream, text in (("positive", prompts.positive), ("negative", prompts.negative)):
            assert count_tokens(tokenizer, text) == prompts.tokens[stream] <= 77
            if prompts.dropped[stream]:
                assert any(stream in n and prompts.dropped[stream][0] in n for n in prompts.asides)


def test_the_last_of_the_order_goes_first_and_no_more_than_needed():
    settings = config(preset="tiny")
    prompts = compose(ALL_TRUE, settings)
    kept = [n for n in ORDER if n in prompts.said]
    assert kept == list(ORDER[: len(kept)])
    gone = prompts.dropped["positive"]
    assert gone[: 40 - len(kept)] == list(ORDER[len(kept) :])
    # Quality words go only when no attribute is left to drop, the last ones first.
    assert gone[40 - len(kept) :] == [] or len(kept) == 2
    one_more = {n: True for n in WORDS if n in ORDER[: len(kept) + 1]}
    words = [w.strip() for w in settings.prompt.quality.split(",")]
    whole = ", ".join([compose_sentence(one_more), *words])
    assert count_tokens(make_tokenizer(settings), whole) > 77
    assert sorted(ORDER) == sorted(WORDS)


def test_sure_enough_by_the_thresholds():
    description = Description(attributes={"Smiling": 0.9, "Bangs": 0.89, "Big_Nose": 0.11, "Bald": 0.1})
    prompts = compose(description, config())
    assert (prompts.said, prompts.denied, prompts.unsure) == (["Smiling"], ["Bald"], ["Bangs", "Big_Nose"])
    for probability, word in ((0.03, "woman"), (0.97, "man"), (0.0, "woman"), (1.0, "man")):
        who = compose(Description(attributes={"Male": probability}), config())
        assert (who.positive, who.said) == (f"a {word}", ["Male"])
        assert who.denied == (["Male"] if word == "woman" else [])
    wider = compose(description, config("prompt.true_from=0.4", "prompt.false_to=0.3"))
    assert wider.unsure == []


@pytest.mark.parametrize("options", [(), ("prompt.sex_from=0.9",), ("prompt.true_from=0.5", "prompt.false_to=0.5")])
def test_sex_is_never_said_below_nine_tenths(options: tuple[str, ...]) -> None:
    """Whatever else is known, and however low the other bounds are."""
    for probability in np.linspace(0.101, 0.899, 41):
        others = {"Young": 1.0, "No_Beard": 0.95, "Goatee": 0.02, "Wearing_Lipstick": 0.97}
        prompts = compose(Description(attributes={"Male": float(probability), **others}), config(*options))
        assert not {"man", "woman"} & set(prompts.positive.replace(",", " ").split())
        assert "Male" in prompts.unsure
    with pytest.raises(UserError, match=r"prompt\.sex_from"):
        compose(Description(attributes={"Male": 0.8}), config("prompt.sex_from=0.7"))


def test_the_samples_woman_is_not_called_a_man() -> None:
    """The shipped network is unsure of her (Male 0.62): then nothing is said, and nothing that follows from it."""
    from ipfvr.conditioning.face2text import describe
    from ipfvr.data.sample import portrait
    from ipfvr.faces.align import crop, crop_matrix
    from ipfvr.faces.detect import make_detector

    picture, settings = portrait(), load_config(None, [])
    found = make_detector(settings.faces).detect(picture)[0]
    face = crop(picture, crop_matrix(found.landmarks, settings.video.size), settings.video.size)
    words = compose(describe([face], settings), settings).positive.replace(",", " ").split()
    assert "man" not in words


def test_nothing_known_is_the_presets_own_words():
    assert compose(Description(), config()).positive == "a person"
    assert with_words(config(), []) == (config(), {})


def test_text_by_hand_that_is_too_long_is_refused():
    with pytest.raises(UserError, match=r"take \d+ tokens.*shorten the text"):
        compose(replace(WOMAN, text="freckles " * 80), config())


# By hand


def test_by_hand_overrides_what_was_read(monkeypatch):
    class Reader:
        path = Path("attributes")

        def read(self, faces):
            return dict.fromkeys(WORDS, 0.9 if len(faces) == 1 else 0.1)

    monkeypatch.setattr(face2text, "load_attributes", lambda _: Reader())
    settings, face = config("weights.emotion=''"), np.zeros((8, 8, 3), np.uint8)
    hand = PromptFile({"Bald": False, "Bangs": None}, "sad", ["speaking"], "freckles")
    description = describe([face], settings, hand)
    assert description.attributes["Bald"] == 0
    assert "Bangs" not in description.attributes
    assert description.attributes["Smiling"] == 0.9
    assert (description.emotion, description.actions, description.text) == ("sad", ["speaking"], "freckles")
    # The expression is the video's, the rest the reference's; what is said by hand stays.
    hand = PromptFile({"Smiling": True})
    moving = describe([face], settings, hand, [face, face]).attributes
    assert {n for n, p in moving.items() if p == 0.1} == set(EXPRESSIONS) - {"Smiling"}
    assert moving["Smiling"] == 1
    new, record = with_words(settings, [face], hand)
    assert new.prompt.positive == record["positive"] != settings.prompt.positive
    assert settings == config("weights.emotion=''")
    off = config("prompt.describe=false")
    assert with_words(off, [face], hand) == (off, {})


def test_without_its_file_the_emotion_is_left_out_and_that_is_said(tmp_path):
    face = np.full((64, 64, 3), 128, np.uint8)
    description = describe([face], config("weights.attributes=''", f"weights.emotion={tmp_path}/none.hdf5"))
    assert description.emotion == ""
    assert "the prompt names no emotion" in description.notes[0]


def test_a_written_file_says_the_same_when_read(tmp_path):
    settings, path = config(), tmp_path / "prompt.yaml"
    description = random_person(5)
    description.actions, description.text = ["speaking", "nodding"], 'says: "yes"'
    description.emotion = "happy"
    spoken = {"emotion": "happy", "actions": description.actions, "text": description.text}
    truths = description.truths(settings.prompt)
    write_prompt(path, description.attributes, truths, spoken)
    hand = read_prompt(path)
    assert hand.attributes == {n: t for n, t in truths.items() if n not in EXPRESSIONS}
    assert (hand.actions, hand.text, hand.emotion) == (description.actions, description.text, None)
    path.write_text(path.read_text().replace("# emotion:", "emotion:").replace("  # Smiling", "  Smiling"))
    assert read_prompt(path).emotion == "happy"
    assert "Smiling" in read_prompt(path).attributes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("attributes: {Eyeglases: true}", "no attribute 'Eyeglases'; the nearest of CelebA's 40 is 'Eyeglasses'"),
        ("atributes: {Bald: true}", "unknown key 'atributes'; the nearest valid one is 'attributes'"),
        ("attributes: {Bald: perhaps}", "must be true, false or null"),
        ("attributes: [Bald]", "'attributes' must hold names"),
        ("actions: {speaking: true}", "'actions' must be a list"),
        ("- Bald", "not a list"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "prompt.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_prompt(path)


def test_the_persons_folder_is_looked_into(tmp_path):
    picture = tmp_path / "ann" / "reference" / "a.jpg"
    picture.parent.mkdir(parents=True)
    assert find_prompt([picture]) is None
    (tmp_path / "ann" / "prompt.yaml").write_text("emotion: sad\n")
    assert read_by_hand([picture], config()) == PromptFile(emotion="sad")
    assert read_by_hand([picture], config("prompt.describe=false")) is None
    (tmp_path / "other.yaml").write_text("text: freckles.\n")
    assert read_by_hand([picture], config(f"prompt.file={tmp_path}/other.yaml")) == PromptFile(text="freckles")
    with pytest.raises(UserError, match="no prompt file"):
        read_by_hand([], config("prompt.file=/none.yaml"))


# By a language model


class Server(HTTPServer):
    """Answers like an OpenAI-compatible address, after ``wait`` seconds."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.wait, self.seen = "", 0.0, []
        self.address = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers.get("Authorization"), body))
        time.sleep(self.server.wait)
        content = self.server.answer
        text = content if content == "nonsense" else json.dumps({"choices": [{"message": {"content": content}}]})
        with contextlib.suppress(OSError):  # who asked may have gone
            self.send_response(200 if content else 500)
            self.end_headers()
            self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def asked(server: Server, *pairs: str) -> Config:
    return config("prompt.compose=openai", "prompt.model=m", f"prompt.address={server.address}", *pairs)


def test_an_address_that_answers_well_is_used(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    server.answer = '"A smiling young woman who has brown hair."\n'
    prompts = compose(WOMAN, asked(server, "prompt.key_variable=SOME_KEY", "prompt.quality='sharp'"))
    assert prompts.positive == "A smiling young woman who has brown hair, sharp"
    assert prompts.notes == []
    path, key, body = server.seen[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "m")
    assert "young woman, brown hair, smiling" in body["messages"][0]["content"]
    monkeypatch.delenv("SOME_KEY")
    compose(WOMAN, asked(server, "prompt.key_variable=SOME_KEY"))
    assert server.seen[1][1] is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "does not answer .HTTPError"),
        ("nonsense", "does not answer .JSONDecodeError"),
        ("A young woman with brown hair.", "left out smiling"),
        ("A smiling young man with brown hair.", "left out young woman"),
        ("A smiling young woman with brown hair " + "and more " * 60, "takes more than 77 tokens"),
    ],
)
def test_otherwise_the_template_speaks_and_the_reason_is_told(server, answer, reason):
    server.answer = answer
    prompts = compose(WOMAN, asked(server))
    assert prompts.positive == compose(WOMAN, config()).positive
    assert len(prompts.notes) == 1
    assert prompts.notes[0].endswith("the template's sentence is used")
    assert re.search(reason, prompts.notes[0])


def test_a_slow_or_absent_address_falls_back(server):
    server.answer, server.wait = "late", 2.0
    began = time.monotonic()
    prompts = compose(WOMAN, asked(server, "prompt.timeout=0.2"))
    assert time.monotonic() - began < 1.9
    assert "does not answer" in prompts.notes[0]
    nobody = compose(WOMAN, config("prompt.compose=openai", "prompt.model=m", "prompt.address=http://127.0.0.1:9/v1"))
    assert "does not answer (URLError" in nobody.notes[0]


def test_words_are_missed_whole():
    assert missing_phrases("a woman with big lips", ["man", "a big nose", "big lips"]) == ["man", "a big nose"]
    assert missing_phrases("He has a five o'clock shadow.", ["a five o'clock shadow"]) == []


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A language model of a few thousand random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = {w: i for i, w in enumerate(["<unk>", "<end>", "a", "young", "woman", "smiling", "brown", "hair"])}
    learner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=learner, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    size = GPT2Config(vocab_size=8, n_positions=512, n_embd=16, n_layer=1, n_head=2, eos_token_id=1, bos_token_id=1)
    GPT2LMHeadModel(size).save_pretrained(folder)
    return folder


def test_a_local_model_is_asked_and_checked(model_folder, monkeypatch):
    settings = config("prompt.compose=transformers", f"prompt.model={model_folder}")
    prompts = compose(WOMAN, settings)  # random weights leave words out
    assert prompts.positive == compose(WOMAN, config()).positive
    assert "left out" in prompts.notes[0]
    from transformers import GPT2LMHeadModel

    def generate(self, input_ids, **_):
        import torch

        return torch.cat([input_ids, torch.tensor([[2, 5, 3, 4, 6, 7, 1]])], dim=1)

    monkeypatch.setattr(GPT2LMHeadModel, "generate", generate)
    prompts = compose(WOMAN, settings)
    assert (prompts.positive, prompts.notes) == ("a smiling young woman brown hair", [])


def test_a_model_that_is_not_there_falls_back(tmp_path):
    prompts = compose(WOMAN, config("prompt.compose=transformers", f"prompt.model={tmp_path}"))
    assert "does not answer" in prompts.notes[0]


def test_a_language_model_must_be_named():
    with pytest.raises(UserError, match=r"needs prompt\.model"):
        compose(WOMAN, config("prompt.compose=transformers"))
    with pytest.raises(UserError, match=r"needs prompt\.address"):
        compose(WOMAN, config("prompt.compose=openai", "prompt.model=m"))


def test_what_the_network_is_never_sure_of_is_said_only_by_hand() -> None:
    """However high its probability; denying it is another matter."""
    for name in NEVER_READ:
        assert name in compose(Description(attributes={name: 0.999}), config()).unsure
        assert name in compose(Description(attributes={name: 1.0}), config()).said
        assert name in compose(Description(attributes={name: 0.01}), config()).denied
