"""A stand-in for the Hugging Face Hub that speaks what its client asks of it, so that tests need no network.

Repositories live in memory: commits are {path: bytes}. ``answers`` injects failures, ``calls`` records requests.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"
LFS_FROM = 100_000  # bytes


class StandIn:
    """The server, its repositories, and what it was asked."""

    def __init__(self):
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}  # id -> [(sha, files)], newest last
        self.objects: dict[str, bytes] = {}  # large files by sha256
        self.created: dict[str, dict] = {}  # what each repository was asked to be
        self.hardware: dict[str, str] = {}
        self.variables: dict[str, dict[str, str]] = {}
        self.calls: list[str] = []
        self.ranges: list[str] = []  # of the downloads that asked for one
        self.answers: list[tuple[str, int, dict]] = []  # (pattern of "METHOD path", status, headers), each used once
        self.cut_after: int | None = None  # bytes of the next large file after which the connection breaks, once
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                stand_in.serve(self)

            do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit with all these files; its sha."""
        commits = self.repositories.setdefault(name, [])
        sha = hashlib.sha1(repr((name, len(commits), sorted(files.items()))).encode()).hexdigest()
        commits.append((sha, files))
        return sha

    def files(self, name: str) -> dict[str, bytes]:
        """Those of the newest commit."""
        return self.repositories[name][-1][1] if self.repositories[name] else {}

    def serve(self, request) -> None:
        # A Space user/name is kept as spaces/user/name; a model under its plain name.
        path = unquote(urlsplit(request.path).path).replace("/api/spaces/", "/api/models/spaces/")
        call = f"{request.command} {path}"
        self.calls.append(call)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        for k, (pattern, status, headers) in enumerate(self.answers):
            if re.search(pattern, call):
                del self.answers[k]
                return reply(request, status, {"error": "injected"}, headers)
        allowed = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if request.command in ("POST", "PUT", "DELETE") and not allowed and not path.startswith("/objects/"):
            return reply(request, 401, {"error": "Invalid username or password."})
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, call):
                return method(self, request, body, *found.groups())
        return reply(request, 404, {"error": f"the stand-in does not know {call}"})

    def create(self, request, body) -> None:
        asked = json.loads(body)
        kind = "spaces/" if asked.get("type") == "space" else ""
        name = f"{kind}{asked.get('organization') or 'user'}/{asked['name']}"
        self.created[name] = asked
        if name in self.repositories:
            return reply(request, 409, {"error": "exists", "url": f"{self.url}/{name}"})
        self.commit(name, {".gitattributes": b""})  # as the Hub does
        return reply(request, 200, {"url": f"{self.url}/{name}", "name": name, "id": name})

    def validate(self, request, body) -> None:
        from huggingface_hub import ModelCard

        try:
            ModelCard(json.loads(body)["content"])
        except Exception as error:
            return reply(request, 400, {"errors": [{"message": str(error)}], "warnings": []})
        return reply(request, 200, {"errors": [], "warnings": []})

    def preupload(self, request, body, name, revision) -> None:
        if name not in self.repositories:
            return not_found(request)
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] >= LFS_FROM else "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        return reply(request, 200, {"files": modes})

    def batch(self, request, body, name) -> None:
        objects = [
            {"oid": o["oid"], "size": o["size"], "authenticated": True}
            | ({} if o["oid"] in self.objects else {"actions": {"upload": {"href": f"{self.url}/objects/{o['oid']}"}}})
            for o in json.loads(body)["objects"]
        ]
        return reply(request, 200, {"transfer": "basic", "objects": objects})

    def put(self, request, body, oid) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.objects[oid] = body
        return reply(request, 200, {})

    def receive(self, request, body, name, revision) -> None:
        files = dict(self.files(name))
        for line in body.decode().splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif told["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif told["key"] == "deletedFile":
                files.pop(value["path"], None)
        sha = self.commit(name, files)
        return reply(request, 200, {"commitOid": sha, "commitUrl": f"{self.url}/{name}/commit/{sha}", "success": True})

    def host(self, request, body, name) -> None:
        self.hardware[name] = json.loads(body)["flavor"]
        return reply(request, 200, {"stage": "BUILDING", "hardware": {"requested": self.hardware[name]}})

    def set(self, request, body, name) -> None:
        told = json.loads(body)
        self.variables.setdefault(name, {})[told["key"]] = told["value"]
        return reply(request, 200, {told["key"]: {"value": told["value"]}})

    def list_variables(self, request, body, name) -> None:
        told = self.variables.get(name, {})
        return reply(request, 200, {key: {"key": key, "value": value} for key, value in told.items()})

    def unset(self, request, body, name) -> None:
        if json.loads(body)["key"] not in self.variables.get(name, {}):
            return reply(request, 404, {"error": "no such variable"})
        del self.variables[name][json.loads(body)["key"]]
        return reply(request, 200, {})

    def at(self, name, revision) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision names."""
        commits = self.repositories.get(name) or []
        if revision == "main":
            return commits[-1] if commits else None
        return next((commit for commit in commits if commit[0] == revision), None)

    def info(self, request, body, name, revision="main") -> None:
        if name not in self.repositories:
            return not_found(request)
        found = self.at(name, revision)
        if found is None:
            return reply(request, 404, {"error": "Revision Not Found"}, {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": path, "size": len(data)} for path, data in found[1].items()]
        return reply(request, 200, {"id": name, "modelId": name, "sha": found[0], "siblings": siblings, "tags": []})

    def tree(self, request, body, name, revision) -> None:
        found = self.at(name, revision)
        if found is None:
            return not_found(request)
        rows = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in found[1].items()
        ]
        return reply(request, 200, rows)

    def resolve(self, request, body, name, revision, path) -> None:
        found = self.at(name, revision)
        if found is None:
            return not_found(request)
        sha, files = found
        if path not in files:
            return reply(request, 404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        data = files[path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-", request.headers.get("Range") or "")
        first = int(asked[1]) if asked else 0
        self.ranges += [request.headers["Range"]] if asked else []
        if asked:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        cut, whole = self.cut_after, data[first:]
        if request.command == "GET" and cut is not None and len(whole) > cut:
            self.cut_after = None
            head(request, 206 if asked else 200, len(whole), headers)
            request.wfile.write(whole[:cut])
            request.close_connection = True
            return request.connection.shutdown(2)
        head(request, 206 if asked else 200, len(whole), headers)
        if request.command == "GET":
            request.wfile.write(whole)
        return None


NAME, REVISION = r"((?:spaces/)?[\w.-]+/[\w.-]+)", r"([\w.-]+)"
ROUTES = [
    ("POST /api/repos/create", StandIn.create),
    ("POST /api/validate-yaml", StandIn.validate),
    (f"POST /api/models/{NAME}/preupload/{REVISION}", StandIn.preupload),
    (f"POST /{NAME}.git/info/lfs/objects/batch", StandIn.batch),
    (r"PUT /objects/(\w+)", StandIn.put),
    (f"POST /api/models/{NAME}/commit/{REVISION}", StandIn.receive),
    (f"POST /api/models/{NAME}/hardware", StandIn.host),
    (f"POST /api/models/{NAME}/variables", StandIn.set),
    (f"GET /api/models/{NAME}/variables", StandIn.list_variables),
    (f"DELETE /api/models/{NAME}/variables", StandIn.unset),
    (f"GET /api/models/{NAME}", StandIn.info),
    (f"GET /api/models/{NAME}/revision/{REVISION}", StandIn.info),
    (f"GET /api/models/{NAME}/tree/{REVISION}", StandIn.tree),
    (f"(?:GET|HEAD) /{NAME}/resolve/{REVISION}/(.+)", StandIn.resolve),
]


def head(request, status: int, length: int, headers: dict) -> None:
    request.send_response(status)
    for key, value in headers.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(length))
    request.end_headers()


def reply(request, status: int, told, headers: dict | None = None) -> None:
    data = json.dumps(told).encode()
    head(request, status, len(data), {"Content-Type": "application/json"} | (headers or {}))
    if request.command != "HEAD":
        request.wfile.write(data)


def not_found(request) -> None:
    reply(request, 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
