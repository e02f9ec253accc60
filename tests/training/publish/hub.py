"""A hub on loopback that keeps what it is sent: repositories, large files, commits.

Speaks what ``huggingface_hub`` asks of the real one for an upload without Xet.
"""

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

LARGE = re.compile(r".*\.(safetensors|gguf|parquet|arrow|bin)")
TOKEN = "hf_secret"  # noqa: S105


@dataclass
class Hub:
    """What the hub holds and has seen."""

    url: str = ""
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By ``models/user/name``: ``private`` and ``files`` (bytes by path)."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256."""
    sent: list[str] = field(default_factory=list)
    """Digests of the large files that arrived, in order."""
    commits: int = 0
    break_after: int | None = None
    """Large files after which connections break off."""
    spoil: str | None = None
    """A file that is kept otherwise than it was sent."""
    tokens: set[str] = field(default_factory=set)
    licenses: dict[str, str] = field(default_factory=dict)
    """Of bases, by name."""

    def files(self, name: str) -> dict[str, bytes]:
        files: dict[str, bytes] = self.repositories[name]["files"]
        return files


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # noqa: S324
    entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if LARGE.fullmatch(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
    return entry


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, value: Any, code: int = 200) -> None:
            payload = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(payload)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def is_allowed(self) -> bool:
            hub.tokens.add(self.headers.get("Authorization", ""))
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                return True
            self.answer({"error": "Invalid credentials"}, 401)
            return False

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if found := re.fullmatch(r"/api/(\w+)/([\w-]+/[\w.-]+)/tree/main", path):
                files = hub.files(f"{found[1]}/{found[2]}")
                self.answer([_entry(name, content) for name, content in files.items()])
            elif found := re.fullmatch(r"/api/models/([\w-]+/[\w.-]+)", path):
                if found[1] in hub.licenses:
                    card = {"license": hub.licenses[found[1]]}
                    self.answer({"id": found[1], "cardData": card, "siblings": []})
                else:
                    self.answer({"error": "Repository not found"}, 404)
            elif found := re.fullmatch(r"/api/(\w+)/([\w-]+/[\w.-]+)(/revision/main)?", path):
                self.answer({"id": found[2], "sha": "0" * 40, "siblings": []})
            else:
                self.answer({"error": f"no {path}"}, 404)

        def do_PUT(self) -> None:
            content = self.body()
            if hub.break_after is not None and len(hub.sent) >= hub.break_after:
                self.close_connection = True  # without a word
                return
            digest = hashlib.sha256(content).hexdigest()
            assert digest == self.path.rpartition("/")[2]
            hub.objects[digest] = content
            hub.sent.append(digest)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            payload = self.body()
            if not self.is_allowed():
                return
            path = self.path.partition("?")[0]
            if path == "/api/repos/create":
                self.create(json.loads(payload))
            elif path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif path.endswith("/preupload/main"):
                files = [
                    {"path": file["path"], "shouldIgnore": False, "oid": None,
                     "uploadMode": "lfs" if LARGE.fullmatch(file["path"]) else "regular"}
                    for file in json.loads(payload)["files"]
                ]  # fmt: skip
                self.answer({"files": files})
            elif path.endswith("/info/lfs/objects/batch"):
                self.answer({"transfer": "basic", "objects": [
                    {"oid": one["oid"], "size": one["size"]} if one["oid"] in hub.objects else
                    {"oid": one["oid"], "size": one["size"], "actions": {
                        "upload": {"href": f"{hub.url}/upload/{one['oid']}", "header": {}},
                    }}
                    for one in json.loads(payload)["objects"]
                ]})  # fmt: skip
            elif found := re.fullmatch(r"/api/(\w+)/([\w-]+/[\w.-]+)/commit/main", path):
                self.commit(f"{found[1]}/{found[2]}", payload)
            else:
                self.answer({"error": f"no {path}"}, 404)

        def create(self, asked: dict[str, Any]) -> None:
            kind = f"{asked.get('type', 'model')}s"
            name = f"{asked['organization']}/{asked['name']}"
            prefix = "" if kind == "models" else f"{kind}/"
            url = {"url": f"{hub.url}/{prefix}{name}"}
            if f"{kind}/{name}" in hub.repositories:
                self.answer(url | {"error": "You already created this repo"}, 409)
                return
            private = asked.get("private") or asked.get("visibility") == "private"
            hub.repositories[f"{kind}/{name}"] = {"private": bool(private), "files": {}}
            self.answer(url)

        def commit(self, name: str, payload: bytes) -> None:
            files = hub.files(name)
            for line in payload.decode().splitlines():
                item = json.loads(line)
                value = item["value"]
                if item["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif item["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
            if hub.spoil in files:
                files[hub.spoil] += b" "
            hub.commits += 1
            url = f"{hub.url}/{name.removeprefix('models/')}"
            self.answer({"commitUrl": f"{url}/commit/{'a' * 40}", "commitOid": "a" * 40})

    return Handler


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """A hub for a while."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
