"""A model hub in this process: the calls that huggingface_hub makes to create, list, upload and download, over HTTP.

Repositories live in memory. Big files (*.safetensors) take the LFS way, the others travel inside the commit, as on the
real hub. Every request is kept, so that a test can say what was never asked for.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_local"
"""The one token with rights: to write anywhere, and to see what is private or gated."""


def _digest(*parts: object) -> str:
    return hashlib.sha1(repr(parts).encode()).hexdigest()


@dataclass
class Repository:
    """One repository: files by commit, commits by branch."""

    is_private: bool = False
    is_gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str = "commit") -> str:
        sha = _digest(branch, len(self.commits), sorted(files))
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def files(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """Commit and files at a branch or commit; a KeyError if there is none."""
        sha = self.branches.get(revision, revision)
        return sha, self.commits[sha]


class LocalHub:
    """`with LocalHub() as hub:` serves at `hub.endpoint` until the block ends."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}
        hub = self

        class Handler(_Handler):
            state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LocalHub":
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: dict[str, bytes], is_private: bool = False, is_gated: bool = False) -> Repository:
        """A repository with one commit on its branch `main`."""
        repository = Repository(is_private, is_gated)
        repository.commit("main", files)
        self.repositories[name] = repository
        return repository


class _Refusal(Exception):
    def __init__(self, status: int, code: str = "", text: str = "", **body: str) -> None:
        self.status, self.code, self.text, self.body = status, code, text, body


class _Handler(BaseHTTPRequestHandler):
    state: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(f"{self.command} {path}")
        headers: dict[str, str] = {}
        try:
            answer = self._route(path, body)
            status = 200
            content, headers = answer if isinstance(answer, tuple) else (json.dumps(answer).encode(), {})
        except _Refusal as refusal:
            status, content = refusal.status, json.dumps({"error": refusal.text} | refusal.body).encode()
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            headers["X-Error-Message"] = refusal.text
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content)), "Connection": "close"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, path: str, body: bytes) -> Any:
        name = r"(?P<name>[^/]+/[^/]+?)"
        for method, pattern, handle in (
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", lambda body: {"errors": [], "warnings": []}),
            ("GET", rf"/api/models/{name}(?:/revision/(?P<revision>.+))?", self._info),
            ("GET", rf"/api/models/{name}/tree/(?P<revision>[^/]+)", self._tree),
            ("POST", rf"/api/models/{name}/branch/(?P<revision>.+)", self._branch),
            ("POST", rf"/api/models/{name}/preupload/(?P<revision>.+)", self._preupload),
            ("POST", rf"/api/models/{name}/commit/(?P<revision>.+)", self._commit),
            ("POST", rf"/{name}\.git/info/lfs/objects/batch", self._lfs_batch),
            ("PUT", r"/lfs/(?P<oid>\w+)", self._lfs_put),
            ("GET HEAD", rf"/{name}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self._resolve),
        ):
            if self.command in method.split() and (match := re.fullmatch(pattern, path)):
                return handle(body=body, **match.groupdict())
        raise _Refusal(404, "EntryNotFound", f"no such call: {self.command} {path}")

    @property
    def _has_rights(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str, to_write: bool = False) -> Repository:
        if to_write and not self._has_rights:
            raise _Refusal(401, text="Invalid credentials in Authorization header")
        repository = self.state.repositories.get(name)
        if repository is None or (repository.is_private and not self._has_rights):
            raise _Refusal(404 if self._has_rights else 401, "RepoNotFound", "Repository not found")
        return repository

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        try:
            return self._repository(name).files(revision)
        except KeyError:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}") from None

    def _create(self, body: bytes) -> Any:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if not self._has_rights:
            raise _Refusal(401, text="Invalid credentials in Authorization header")
        if name in self.state.repositories:
            raise _Refusal(409, text="You already created this model repo", url=f"{self.state.endpoint}/{name}")
        self.state.add(name, {".gitattributes": b""}, is_private=wanted.get("visibility") == "private")
        return {"url": f"{self.state.endpoint}/{name}", "name": name, "id": name}

    def _info(self, body: bytes, name: str, revision: str | None) -> Any:
        sha, files = self._files(name, revision or "main")
        return {
            "id": name,
            "sha": sha,
            "private": self._repository(name).is_private,
            "siblings": [{"rfilename": path} for path in files],
        }

    def _tree(self, body: bytes, name: str, revision: str) -> Any:
        rows = []
        for path, content in self._files(name, revision)[1].items():
            row = {"type": "file", "path": path, "size": len(content), "oid": _digest(content)}
            if path.endswith(".safetensors"):
                row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
            rows.append(row)
        return rows

    def _branch(self, body: bytes, name: str, revision: str) -> Any:
        repository = self._repository(name, to_write=True)
        if revision in repository.branches:
            raise _Refusal(409, text="Reference already exists")
        repository.branches[revision] = repository.branches["main"]
        return {}

    def _preupload(self, body: bytes, name: str, revision: str) -> Any:
        self._repository(name, to_write=True)
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
        }

    def _lfs_batch(self, body: bytes, name: str) -> Any:
        self._repository(name, to_write=True)
        rows = []
        for wanted in json.loads(body)["objects"]:
            row: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.state.blobs:
                row["actions"] = {"upload": {"href": f"{self.state.endpoint}/lfs/{wanted['oid']}"}}
            rows.append(row)
        return {"transfer": "basic", "objects": rows}

    def _lfs_put(self, body: bytes, oid: str) -> Any:
        assert hashlib.sha256(body).hexdigest() == oid
        self.state.blobs[oid] = body
        return {}

    def _commit(self, body: bytes, name: str, revision: str) -> Any:
        repository = self._repository(name, to_write=True)
        files = dict(repository.files(revision)[1])
        message = ""
        for line in body.decode().splitlines():
            entry = json.loads(line)
            kind, value = entry["key"], entry["value"]
            match kind:
                case "header":
                    message = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.state.blobs[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        sha = repository.commit(revision, files, message)
        return {"commitUrl": f"{self.state.endpoint}/{name}/commit/{sha}", "commitOid": sha}

    def _resolve(self, body: bytes, name: str, revision: str, file: str) -> Any:
        sha, files = self._files(name, revision)
        if self._repository(name).is_gated and not self._has_rights:
            raise _Refusal(403, "GatedRepo", "Access to this model is restricted")
        if file not in files:
            raise _Refusal(404, "EntryNotFound", f"no file {file}")
        return files[file], {"X-Repo-Commit": sha, "ETag": f'"{_digest(files[file])}"'}
