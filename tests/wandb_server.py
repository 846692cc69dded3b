"""A stand-in for the server of W&B on this machine, which keeps what the library sends to it."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Received:
    """What was sent.

    Attributes:
        address: the server's address.
        operations: the GraphQL operations as (name, variables), in their order.
        history: the rows of each run's history, by the run's id.
        files: the content of each uploaded file by its name.
        artifacts: the descriptions of the artifacts.
    """

    def __init__(self) -> None:
        self.address = ""
        self.operations: list[tuple[str, dict[str, Any]]] = []
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: list[dict[str, Any]] = []

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """Return the variables of each call of an operation."""
        return [given for name, given in self.operations if name == operation]

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the data of an answer."""
        self.operations.append((operation, given))
        owner = {"id": "e", "name": given.get("entity", "us")}
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": "us", "username": "u", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertBucket":
            project = {"id": "p", "name": given["project"], "entity": owner}
            bucket = {"id": given["name"], "name": given["name"], "displayName": given["displayName"]}
            return {"upsertBucket": {"bucket": {**bucket, "project": project, "historyLineCount": 0}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.address}/storage/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        return self.artifact_answer(operation, given)

    def artifact_answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the data of an answer about an artifact."""
        if operation == "ArtifactType":
            return {"project": None}  # no artifact has that name yet
        if operation == "CreateArtifact":
            self.artifacts.append(given["input"])
            sequence = {"id": "s", "latestArtifact": None}
            artifact = {"id": str(len(self.artifacts)), "state": "PENDING", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if operation in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            name, file = operation[0].lower() + operation[1:], self.stored("manifest.json")
            return {name: {"artifactManifest": {"id": "m", "file": file}}}
        if operation == "CreateArtifactFiles":
            files = given["input"]["artifactFiles"]
            nodes = [{"node": {**self.stored(f["name"]), "artifact": {"id": f["artifactID"]}}} for f in files]
            return {"createArtifactFiles": {"files": {"edges": nodes}}}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}
        return {}

    def stored(self, name: str) -> dict[str, Any]:
        """Return where a file is to be uploaded."""
        address = f"{self.address}/storage/{name}"
        return {"id": name, "storagePath": name, "uploadUrl": address, "uploadHeaders": [], "uploadMultipartUrls": None}


@contextmanager
def wandb_server() -> Iterator[Received]:
    """Serve inside the block."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def do_GET(self) -> None:
            self.reply({})

        def do_PUT(self) -> None:
            received.files[self.path.removeprefix("/storage/")] = self.content()
            self.reply({})

        def do_POST(self) -> None:
            content = self.content()
            if self.path.endswith("/graphql"):
                query = json.loads(content)
                name = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])[1]
                self.reply({"data": received.answer(name, query.get("variables") or {})})
                return
            if self.path.endswith("/file_stream"):
                sent = json.loads(content).get("files") or {}
                lines = sent.get("wandb-history.jsonl", {}).get("content", [])
                received.history.setdefault(self.path.split("/")[-2], []).extend(map(json.loads, lines))
            self.reply({})

        def content(self) -> bytes:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

        def reply(self, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
