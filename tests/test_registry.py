"""Weights: found where the documentation says, at the right size only; fetched whole or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import zipfile
from pathlib import Path

import pytest

from ipfvr.core import hashes, provenance
from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.folders import cache_folder
from ipfvr.core.hashes import sha256
from ipfvr.weights import __main__ as verb
from ipfvr.weights import fetch as fetching
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES, Entry, File

CONTENT = b"a few bytes that stand for weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def enter(monkeypatch: pytest.MonkeyPatch, **options) -> Entry:
    """Register one entry for the length of a test."""
    defaults = {
        "name": "thing",
        "purpose": "a test",
        "files": (File("thing.bin", len(CONTENT), DIGEST),),
        "licence": "test licence",
        "code_licence": "MIT",
    }
    entry = Entry(**(defaults | options))
    monkeypatch.setitem(ENTRIES, entry.name, entry)
    return entry


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def serve(monkeypatch: pytest.MonkeyPatch, path: Path, **options) -> Entry:
    """An entry whose address is a file on this disk."""
    return enter(monkeypatch, files=(File("thing.bin", len(CONTENT), DIGEST, path.as_uri()),), **options)


def test_search_order(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable's folders come first, in their order, then the cache, then shared/ beside a checkout."""
    enter(monkeypatch)
    beside = put(bare / "shared" / "data" / "weights" / "thing.bin")
    with pytest.raises(UserError):
        registry.locate("thing")  # not a checkout: the folder beside it is nobody's business
    put(bare / "site" / "setup.cfg")
    assert registry.locate("thing") == beside
    cached = put(bare / "cache" / "ipfvr" / "thing.bin")
    assert registry.locate("thing") == cached
    second, first = put(bare / "b" / "deep" / "thing.bin"), put(bare / "a" / "very" / "deep" / "thing.bin")
    monkeypatch.setenv(registry.VARIABLE, f"{bare / 'b'}{os.pathsep}{bare / 'a'}")
    assert registry.locate("thing") == second
    monkeypatch.setenv(registry.VARIABLE, f"{bare / 'nowhere'}{os.pathsep}{bare / 'a'}{os.pathsep}{bare / 'b'}")
    assert registry.locate("thing") == first


def test_a_file_of_another_size_does_not_count(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch)
    wrong = put(bare / "a" / "thing.bin", CONTENT + b"!")
    monkeypatch.setenv(registry.VARIABLE, str(bare / "a"))
    with pytest.raises(UserError) as error:
        registry.locate("thing")
    assert f"{wrong} has {len(CONTENT) + 1} bytes instead of {len(CONTENT)}" in str(error.value)


def test_a_folder_entry_needs_all_its_files(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, files=(File("config.json"), File("model.safetensors")), folder="pack/encoder")
    monkeypatch.setenv(registry.VARIABLE, str(bare / "w"))
    put(bare / "w" / "other" / "encoder" / "config.json")
    config = put(bare / "w" / "x" / "pack" / "encoder" / "config.json")
    with pytest.raises(UserError, match=r"model\.safetensors is not there"):
        registry.locate("thing")
    put(config.with_name("model.safetensors"))
    assert registry.locate("thing") == config.parent


def test_missing_weights_are_one_line_that_says_what_to_do(bare: Path) -> None:
    for name, entry in ENTRIES.items():
        with pytest.raises(UserError) as error:
            registry.locate(name)
        message = str(error.value)
        assert "\n" not in message
        for word in (entry.licence, str(cache_folder()), registry.fetch_line(entry)):
            assert word in message
        assert all(file.name in message for file in entry.files)


def test_locate_takes_an_existing_path_and_refuses_anything_else(bare: Path) -> None:
    path = put(bare / "mine.safetensors")
    assert registry.locate(str(path)) == path
    assert registry.locate(str(bare)) == bare
    for name in ("", "mine", "mini/nothing"):
        with pytest.raises(UserError):
            registry.locate(name)


def test_shipped_weights_are_found_in_the_package(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SHIPPED", bare / "presets")
    file = put(bare / "presets" / "mini" / "vae.safetensors")
    folder = put(bare / "presets" / "mini" / "tokenizer" / "vocab.json").parent
    assert registry.shipped() == {"mini/tokenizer": folder, "mini/vae": file}
    assert registry.locate("mini/vae") == registry.locate("mini/vae.safetensors") == file


def test_sha256_remembers_large_files_until_they_change(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(bare / "large.bin")
    assert sha256(path) == DIGEST
    assert not (cache_folder() / "hashes.json").exists()
    monkeypatch.setattr(hashes, "REMEMBER_FROM", 1)
    assert sha256(path) == DIGEST
    with monkeypatch.context() as patch:
        patch.setattr(hashes, "_digest", lambda path: pytest.fail("hashed again"))
        assert sha256(path) == DIGEST
    put(path, CONTENT[::-1])
    os.utime(path, ns=(1, 1))
    assert sha256(path) == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_sha256_of_a_folder_depends_on_names_and_contents_only(bare: Path) -> None:
    for root in ("a", "b"):
        for name in ("x/1", "2"):
            put(bare / root / name)
    same = sha256(bare / "a")
    assert sha256(bare / "b") == same
    (bare / "b" / "2").rename(bare / "b" / "3")
    assert sha256(bare / "b") != same


def test_fetch_verifies_and_leaves_nothing_else(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, put(bare / "server" / "thing.bin"))
    path = fetching.fetch("thing")
    assert path == registry.locate("thing") == cache_folder() / "thing.bin"
    put(bare / "server" / "thing.bin", b"gone")
    assert fetching.fetch("thing") == path  # already there: the network is not asked
    assert [p.name for p in cache_folder().rglob("*") if p.is_file()] == ["thing.bin"]


def test_what_may_be_missing_is_fetched_where_it_can_be(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No network, one that is silent, a wrong file: soon over, one line, no error; a right one is fetched."""
    serve(monkeypatch, put(bare / "server" / "thing.bin"))
    monkeypatch.setattr(fetching, "PROBE", 0.2)

    def refuse(*_: object, **__: object) -> None:
        raise fetching.urllib.error.URLError("no such host")

    silent = threading.Event()

    def wait(*_: object, **__: object) -> None:
        silent.wait(20)
        refuse()

    for answer in (refuse, wait):
        with monkeypatch.context() as patch:
            patch.setattr(fetching.urllib.request, "urlopen", answer)
            began = time.monotonic()
            assert run_verb(verb.main, ["fetch", "--if-possible", "thing", "niqe"]) == 0
            assert time.monotonic() - began < 2
        assert capsys.readouterr().out == "not fetched: thing, niqe (no network)\n"
    silent.set()
    put(bare / "server" / "thing.bin", CONTENT[::-1])
    assert run_verb(verb.main, ["fetch", "--if-possible", "thing"]) == 0
    assert "not kept" in capsys.readouterr().out
    put(bare / "server" / "thing.bin")
    assert run_verb(verb.main, ["fetch", "--if-possible", "thing"]) == 0
    assert registry.locate("thing") == cache_folder() / "thing.bin"
    assert run_verb(verb.main, ["fetch", "--if-possible", "nothing"]) == 2


def test_fetch_keeps_nothing_of_a_wrong_file(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, put(bare / "server" / "thing.bin", CONTENT[::-1]))
    with pytest.raises(UserError, match="not kept"):
        fetching.fetch("thing")
    assert not [p for p in cache_folder().rglob("*") if p.is_file()]


def test_the_first_digits_of_a_hash_are_checked_where_no_more_is_known(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put(bare / "server" / "thing.bin").as_uri()
    enter(monkeypatch, files=(File("thing.bin", None, "00000000", address),))
    with pytest.raises(UserError, match="not kept"):
        fetching.fetch("thing")
    entry = enter(monkeypatch, files=(File("thing.bin", None, DIGEST[:8], address),))
    assert fetching.fetch("thing").read_bytes() == CONTENT
    assert verb._verdict(entry) == "verified"


def test_fetch_asks_for_a_restricted_licence_before_the_network(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, put(bare / "server" / "thing.bin"), licence="not for sale", restricted=True)
    assert run_verb(verb.main, ["fetch", "thing"]) == 2
    captured = capsys.readouterr()
    assert "not for sale" in captured.out
    assert "--accept-licence" in captured.err
    assert not cache_folder().exists()
    assert run_verb(verb.main, ["fetch", "thing", "--accept-licence"]) == 0
    assert registry.locate("thing").read_bytes() == CONTENT


def test_fetch_unpacks_an_archive_nested_or_not(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = bare / "server" / "pack.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("pack/pack/net.onnx", CONTENT)
    enter(monkeypatch, files=(File("net.onnx", source="net.onnx"),), folder="models/pack", archive=packed.as_uri())
    assert (fetching.fetch("thing") / "net.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["yunet", "ip-adapter"])
def test_without_a_network_the_error_says_which_file_must_lie_where(
    name: str, bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(fetching.urllib.request, "urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    assert run_verb(verb.main, ["fetch", name]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert f"put {ENTRIES[name].path} into {cache_folder()}" in lines[0]


def test_table_names_every_entry_its_state_and_its_licence(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch)
    path = put(cache_folder() / "thing.bin")
    table = verb.table(verify=True)
    rows = {line.split()[0]: line.split()[1] for line in table.splitlines() if line.partition(" ")[0] in ENTRIES}
    assert set(rows) == set(ENTRIES)
    assert rows.pop("thing") == "verified"
    assert set(rows.values()) == {"MISSING"}
    put(path, CONTENT[::-1])
    with pytest.raises(UserError, match="thing"):
        verb.main(["--verify"])


def test_registered_hashes_fit_the_files_of_the_shared_folder() -> None:
    shared = Path(__file__).parents[2] / "shared" / "data" / "weights"
    if not shared.is_dir():
        pytest.skip(f"{shared} is not there")
    hashed = [entry for entry in ENTRIES.values() if entry.files[0].sha256]
    found = [entry for entry in hashed if any(shared.rglob(entry.path))]
    assert found
    for entry in found:
        assert verb._verdict(entry) == "verified"


def test_provenance_tells_what_made_a_result(bare: Path) -> None:
    path = put(bare / "denoiser.safetensors")
    config = load_config(overrides=["preset=tiny", "sampler.steps=3", "device=cpu"])
    record = provenance.provenance(config, 7, {"denoiser": path})
    assert record["weights"]["denoiser"] == {"path": str(path), "bytes": len(CONTENT), "sha256": DIGEST}
    assert record["configuration"]["sampler"]["steps"] == 3
    assert (record["seed"], record["device"]) == (7, "cpu")
    assert {"ipfvr", "commit", "python", "torch", "diffusers", "transformers", "av", "numpy", "cv2"} <= set(
        record["versions"]
    )
    assert record["versions"]["commit"] == "not a checkout"
