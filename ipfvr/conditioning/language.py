"""Turning keywords into a sentence with a language model, local (transformers) or at an OpenAI-compatible address."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException

from ipfvr.core.choices import Composers
from ipfvr.core.errors import UserError
from ipfvr.core.options import PromptConfig

_TASK = (
    "Rewrite this description of a face as one short, natural English sentence for an image generator. "
    "Keep every one of these words: {words}. Add nothing else. Description: {sentence}"
)
_NEW_TOKENS = 96  # more than CLIP reads


def rewrite(sentence: str, phrases: Sequence[str], settings: PromptConfig) -> tuple[str, str]:
    """Let the configured language model rewrite a sentence in its own words.

    Args:
        sentence: the template's.
        phrases: what its answer must hold.
        settings: ``compose``, ``model``, ``address``, ``timeout`` and ``key_variable``.

    Returns:
        The answer and an empty string; or an empty string and why there is no answer that can be used.

    Raises:
        UserError: there is no model, or no address for ``openai``.
    """
    task = _TASK.format(words=", ".join(phrases), sentence=sentence)
    if not settings.model:
        raise UserError(f"prompt.compose={settings.compose} needs prompt.model: a folder, or a model's name")
    if settings.compose == Composers.openai and not settings.address:
        raise UserError("prompt.compose=openai needs prompt.address, such as http://127.0.0.1:8000/v1")
    try:
        answer = (
            _ask_local(task, settings) if settings.compose == Composers.transformers else _ask_address(task, settings)
        )
    # Whatever goes wrong inside somebody's model or server, the template is there.
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, ImportError, HTTPException) as error:
        reason = (str(error).splitlines() or [""])[0]
        return "", f"the language model '{settings.model}' does not answer ({type(error).__name__}: {reason})"
    answer = " ".join(answer.split()).strip("\"' ").rstrip(".")
    lost = missing_phrases(answer, phrases)
    if lost:
        return "", f"the language model '{settings.model}' left out {', '.join(lost)}"
    return answer, ""


def missing_phrases(answer: str, phrases: Sequence[str]) -> list[str]:
    """Return the phrases of which a word, articles apart, is not in the answer as a whole word."""
    words = _words(answer)
    return [phrase for phrase in phrases if not _words(phrase) - {"a", "an", "the"} <= words]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.lower()))


def _ask_local(task: str, settings: PromptConfig) -> str:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    model = AutoModelForCausalLM.from_pretrained(settings.model).eval()
    if tokenizer.chat_template:
        task = tokenizer.apply_chat_template(
            [{"role": "user", "content": task}], add_generation_prompt=True, tokenize=False
        )
    inputs = tokenizer(task, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=_NEW_TOKENS, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _ask_address(task: str, settings: PromptConfig) -> str:
    body = {"model": settings.model, "temperature": 0, "messages": [{"role": "user", "content": task}]}
    headers = {"Content-Type": "application/json"}
    key = os.environ.get(settings.key_variable, "")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(
        settings.address.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=settings.timeout) as response:
        return json.load(response)["choices"][0]["message"]["content"]
