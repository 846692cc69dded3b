"""Tokenizer and CLIP text model, whose vectors the denoiser's cross-attentions read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from ipfvr.core.errors import UserError
from ipfvr.core.options import TextConfig

START, END = "<|startoftext|>", "<|endoftext|>"


class TextEncoder(nn.Module):
    """A CLIP text model whose output is a hidden layer after the final norm (VEnhancer takes the penultimate)."""

    def __init__(self, config: TextConfig, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.clip = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                intermediate_size=config.intermediate,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                hidden_act=config.activation,
                max_position_embeddings=config.max_length,
                projection_dim=config.projection,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )

    def tokenize(self, texts: list[str]) -> Tensor:
        """Return token numbers (B, max_length), padded or cut to CLIP's length."""
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.config.max_length, return_tensors="pt"
        )
        return tokens.input_ids.to(self.clip.device)

    def forward(self, texts: list[str]) -> Tensor:
        """Return text embeddings (B, max_length, width) of the layer ``skip_last`` from the end, normalised."""
        output = self.clip(self.tokenize(texts), output_hidden_states=True)
        return self.clip.text_model.final_layer_norm(output.hidden_states[-1 - self.config.skip_last])

    def project(self, texts: list[str]) -> Tensor:
        """Return one vector for each text, (B, projection), in the space that the image encoder shares."""
        return self.clip(self.tokenize(texts)).text_embeds


def load_tokenizer(folder: str | Path) -> CLIPTokenizer:
    """Load a CLIP tokenizer from a folder with ``vocab.json`` and ``merges.txt``.

    Raises:
        UserError: a file is missing.
    """
    folder = Path(folder)
    if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
        raise UserError(f"no tokenizer in {folder}: it must hold vocab.json and merges.txt")
    if (folder / "tokenizer_config.json").is_file():
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    merges = [
        tuple(line.split()) for line in (folder / "merges.txt").read_text().splitlines() if not line.startswith("#")
    ]
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def byte_tokenizer() -> CLIPTokenizer:
    """Make CLIP's tokenizer without merges, one token for each byte, for networks that know no words (preset tiny)."""
    return CLIPTokenizer(vocab=_byte_vocabulary(), merges=[])


def train_tokenizer(texts: Iterable[str], size: int, folder: str | Path) -> CLIPTokenizer:
    """Learn a byte-pair vocabulary of at most ``size`` tokens in CLIP's layout and write it to ``folder``.

    Any text can be encoded, since text that is not in the vocabulary is encoded as bytes.
    """
    base = byte_tokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer = base.backend_tokenizer.normalizer
    learner.pre_tokenizer = base.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]["merges"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in learned]
    vocabulary = _byte_vocabulary(end=False)
    for left, right in merges:
        if len(vocabulary) < size - 2:
            vocabulary.setdefault(left + right, len(vocabulary))
    merges = [pair for pair in merges if "".join(pair) in vocabulary]
    for token in (START, END):
        vocabulary[token] = len(vocabulary)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    return load_tokenizer(folder)


def _byte_vocabulary(end: bool = True) -> dict[str, int]:
    alphabet = sorted(ByteLevel.alphabet())
    tokens = alphabet + [symbol + "</w>" for symbol in alphabet] + ([START, END] if end else [])
    return {token: number for number, token in enumerate(tokens)}
