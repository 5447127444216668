"""A small Hugging Face Hub on 127.0.0.1, held in memory, for tests that run the real client `huggingface_hub`.

So a download is cut short, and the client tries again:

    with HubServer() as server:
        commit = server.commit("alice/model", {"config.json": b"{}", "model.weights.h5": weights})
        server.faults.append(Fault("GET /cdn/.*weights", body_cut=1000))
        huggingface_hub.snapshot_download("alice/model", endpoint=server.url)
        assert server.count("GET /cdn/") == 2
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote

import yaml  # The client requires it, and model cards are YAML.

LFS_SUFFIXES = (".h5", ".npz", ".png")
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


@dataclass
class Fault:
    """What goes wrong with the next `times` requests (None: with all) whose "METHOD path" begins with the regex `match`.

    `status` answers with this error; `body` sends other bytes under the same etag; `body_cut` announces the whole body and
    closes the connection after so many bytes.
    """

    match: str
    times: int | None = 1
    status: int | None = None
    body: bytes | None = None
    body_cut: int | None = None


class HubError(Exception):
    """An answer with an error, in the headers that the client translates into its exceptions."""

    def __init__(self, status, message, code=None, **headers):
        self.status = status
        self.body = {"error": message}
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **headers}


def describe(path, content):
    """A file as the Hub lists it: the oid is that of the git blob, which is a pointer where the file is stored in LFS."""
    entry = {"type": "file", "path": path, "size": len(content)}
    if path.endswith(LFS_SUFFIXES) and content:
        sha256 = hashlib.sha256(content).hexdigest()
        content = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": entry["size"], "pointerSize": len(content)}
    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return entry


def etag(entry):
    """The sha256 of an LFS file, the git blob's sha1 of another one."""
    return entry.get("lfs", entry)["oid"]


def read_card(text):
    """The metadata at the top of a model card."""
    front_matter = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return yaml.safe_load(front_matter[1]) if front_matter else {}


@dataclass
class Commit:
    """The files of a repository after one change."""

    files: dict[str, bytes]
    message: str
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


@dataclass
class Repository:
    """A model repository: its commits by hash, and the branches, tags and pull requests that name some of them."""

    id: str
    private: bool = False
    gated: bool | str = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self):
        return self.id.split("/")[0]

    def resolve(self, revision):
        """The commit hash of a branch, a tag, a pull request's ref, or a hash of at least seven digits."""
        names = {**self.pull_requests, **self.tags, **self.branches}
        if revision in names:
            return names[revision]
        for commit in self.commits:
            if len(revision) >= 7 and commit.startswith(revision):
                return commit
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def files(self, revision="main"):
        """The files of a revision, path to bytes."""
        return self.commits[self.resolve(revision)].files

    def add(self, changes, message, names, name="main"):
        """Commits `changes` (path to bytes, or None to delete) on the ref `name` of `names`; returns the commit hash."""
        parent = names.get(name)
        files = {**(self.commits[parent].files if parent else {}), **changes}
        files = {path: content for path, content in files.items() if content is not None}
        identity = [self.id, parent, message, [describe(*item) for item in files.items()]]
        names[name] = hashlib.sha1(json.dumps(identity).encode()).hexdigest()
        self.commits[names[name]] = Commit(files, message)
        return names[name]

    def information(self, revision="main"):
        """What `model_info` and `list_models` tell, with everything that the client can ask for."""
        commit = self.resolve(revision)
        card = read_card(self.files(commit).get("README.md", b"").decode())
        siblings = []
        for entry in (describe(path, content) for path, content in self.files(commit).items()):
            lfs = entry.get("lfs")
            siblings.append({"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"], "lfs": lfs})
        created, modified = next(iter(self.commits.values())), self.commits[self.branches["main"]]
        return {
            "id": self.id,
            "author": self.owner,
            "sha": commit,
            "createdAt": created.date,
            "lastModified": modified.date,
            "private": self.private,
            "gated": self.gated,
            "library_name": card.get("library_name"),
            "pipeline_tag": card.get("pipeline_tag"),
            "tags": [*card.get("tags", []), *(card[key] for key in ("library_name", "pipeline_tag") if key in card)],
            "cardData": card,
            "siblings": siblings,
        }


class HubServer(ThreadingHTTPServer):
    """The Hub: its `url`, `repositories` by id, the users of its `tokens`, `faults` to come, and `requests` seen.

    A request is recorded as "METHOD path status". A user owns the repositories of the namespace of that name. Files in LFS
    are sent from `storage_url`, another origin than `url` as on the real Hub, so that the client sends no token there.
    """

    request_queue_size = 64

    def __init__(self, tokens=None):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.storage_url = f"http://localhost:{self.server_port}"
        self.tokens = tokens or {}
        self.repositories = {}
        self.faults = []
        self.requests = []
        self.stored = {}
        self.lock = threading.RLock()

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.thread.join()
        self.server_close()

    def commit(self, repo_id, files, message="", private=False):
        """Commits files to the main branch, whatever their paths; makes the repository where it is missing."""
        with self.lock:
            repository = self.repositories.setdefault(repo_id, Repository(repo_id, private))
            return repository.add(files, message, repository.branches)

    def count(self, pattern):
        """How many requests, as "METHOD path status", begin with the regex `pattern`."""
        return sum(re.match(pattern, request) is not None for request in self.requests)

    def take_fault(self, request):
        """The first fault that matches the request, used up by one."""
        fault = next((fault for fault in self.faults if re.match(fault.match, request)), None)
        if fault and fault.times is not None:
            fault.times -= 1
            if not fault.times:
                self.faults.remove(fault)
        return fault


ROUTES = []


def route(pattern):
    """Has the handler's method answer the requests whose "METHOD path" is `pattern`; it gets the groups, unquoted."""

    def register(method):
        ROUTES.append((re.compile(pattern.replace("{repo}", "([^/]+/[^/]+)").replace("{name}", "([^/]+)")), method))
        return method

    return register


class HubHandler(BaseHTTPRequestHandler):
    """Answers the requests that `huggingface_hub` makes. A method returns what is sent: JSON, or bytes."""

    def answer(self):
        """Sends what the method for the request returns or raises, or what the fault has ready."""
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.query = parse_qs(self.path.partition("?")[2])
        request = f"{self.command} {self.path}"
        with self.server.lock:
            fault = self.server.take_fault(request) or Fault("")
            try:
                content = self.find_content(fault)
            except HubError as error:
                self.status, self.answer_headers, content = error.status, error.headers, json.dumps(error.body).encode()
            span = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if span and self.status == 200:
                self.status = 206
                self.answer_headers["Content-Range"] = f"bytes {span[1]}-{len(content) - 1}/{len(content)}"
                content = content[int(span[1]) :]
            self.server.requests.append(f"{request} {self.status}")
        try:
            self.send_response(self.status)
            for name, value in {**self.answer_headers, "Content-Length": len(content)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: fault.body_cut])
        except ConnectionError:
            pass  # The client may give up a download.

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def find_content(self, fault):
        """The bytes to send; sets the status and the headers."""
        if fault.status:
            raise HubError(fault.status, "A fault of the test")
        self.status, self.answer_headers = 200, {}
        endpoint = f"{'GET' if self.command == 'HEAD' else self.command} {self.path.partition('?')[0]}"
        for pattern, method in ROUTES:
            if match := pattern.fullmatch(endpoint):
                result = method(self, *(group and unquote(group) for group in match.groups()))
                if fault.body is not None and self.status == 200:
                    return fault.body
                return result if isinstance(result, bytes) else json.dumps(result, default=str).encode()
        raise HubError(404, f"No such endpoint: {endpoint}")

    def log_message(self, *arguments):
        pass

    @property
    def json(self):
        return json.loads(self.content)

    def user(self, required=False):
        """The user whose token the request bears, None without a token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        if required and not token:
            raise HubError(401, "Invalid username or password.")
        return self.server.tokens.get(token)

    def repository(self, repo_id, write=False):
        """The repository, where the user may see it, and write to it: the owner anything, others a pull request."""
        user, repository = self.user(), self.server.repositories.get(repo_id)
        seen = repository is not None and not (repository.private and user != repository.owner)
        if user is None and (write or not seen):
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        if not seen:
            raise HubError(404, "Repository not found", "RepoNotFound")
        if write and user != repository.owner and "create_pr" not in self.query:
            raise HubError(403, f"You don't have the rights to change {repo_id}")
        return repository

    @route("GET /api/whoami-v2")
    def whoami(self):
        return {"type": "user", "name": self.user(required=True), "orgs": []}

    @route("POST /api/validate-yaml")
    def validate_card(self):
        try:
            read_card(self.json["content"])
        except yaml.YAMLError as error:
            raise HubError(400, str(error)) from error
        return {}

    @route("POST /api/repos/create")
    def create_repository(self):
        user = self.user(required=True)
        repo_id = f"{self.json['organization'] or user}/{self.json['name']}"
        if repo_id.split("/")[0] != user:
            raise HubError(403, f"You don't have the rights to create {repo_id}")
        if repo_id in self.server.repositories:
            self.status = 409
        else:
            private = self.json.get("visibility") == "private"
            self.server.commit(repo_id, {".gitattributes": GIT_ATTRIBUTES}, "initial commit", private)
        return {"url": f"{self.server.url}/{repo_id}"}

    @route("DELETE /api/repos/delete")
    def delete_repository(self):
        repo_id = f"{self.json['organization'] or self.user()}/{self.json['name']}"
        del self.server.repositories[self.repository(repo_id, write=True).id]
        return {}

    @route("GET /api/models")
    def list_models(self):
        """With `full`, `cardData` and `expand`, the list tells more of each model, as on the real Hub."""
        keys = {"id", "createdAt", "private", "library_name", "pipeline_tag", "tags"}
        keys |= {"author", "sha", "lastModified", "gated", "siblings"} if "full" in self.query else set()
        keys |= {"cardData"} & {*self.query}
        if "expand" in self.query:
            keys = {"id", *self.query["expand"]}
        answer, user = [], self.user()
        for repository in self.server.repositories.values():
            model = repository.information()
            author_fits = repository.owner in self.query.get("author", [repository.owner])
            tags_fit = {*self.query.get("filter", [])} <= {*model["tags"]}
            if author_fits and tags_fit and (user == repository.owner or not repository.private):
                answer.append({key: value for key, value in model.items() if key in keys})
        return answer

    @route("GET /api/models/{repo}(?:/revision/{name})?")
    def model_info(self, repo_id, revision):
        information = self.repository(repo_id).information(revision or "main")
        if "blobs" not in self.query:
            information["siblings"] = [{"rfilename": sibling["rfilename"]} for sibling in information["siblings"]]
        return information

    @route("GET /api/models/{repo}/refs")
    def list_refs(self, repo_id):
        repository = self.repository(repo_id)

        def refs(names, prefix=""):
            return [{"name": name, "ref": prefix + name, "targetCommit": commit} for name, commit in names.items()]

        answer = {"branches": refs(repository.branches, "refs/heads/"), "tags": refs(repository.tags, "refs/tags/")}
        return {**answer, "converts": [], "pullRequests": refs(repository.pull_requests)}

    @route("GET /api/models/{repo}/tree/{name}(?:/(.+))?")
    def list_tree(self, repo_id, revision, folder):
        """The files and folders below a folder, or directly in it."""
        entries, start = {}, f"{folder}/" if folder else ""
        for path, content in self.repository(repo_id).files(revision).items():
            if path.startswith(start):
                entries[path] = describe(path, content)
                for slash in re.finditer("/", path[len(start) :]):
                    parent = path[: len(start) + slash.start()]
                    oid = hashlib.sha1(parent.encode()).hexdigest()
                    entries[parent] = {"type": "directory", "path": parent, "oid": oid, "size": 0}
        if folder and not entries:
            raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        recursive = self.query["recursive"] == ["true"]
        return [entry for path, entry in sorted(entries.items()) if recursive or "/" not in path[len(start) :]]

    @route("POST /api/models/{repo}/branch/{name}")
    def create_branch(self, repo_id, branch):
        repository = self.repository(repo_id, write=True)
        return self.name_commit(repository, repository.branches, branch, self.json.get("startingPoint", "main"))

    @route("POST /api/models/{repo}/tag/{name}")
    def create_tag(self, repo_id, revision):
        repository = self.repository(repo_id, write=True)
        return self.name_commit(repository, repository.tags, self.json["tag"], revision)

    def name_commit(self, repository, names, name, revision):
        if name in names:
            raise HubError(409, f"Reference already exists: {name}")
        names[name] = repository.resolve(revision)
        return {}

    @route("POST /api/models/{repo}/preupload/{name}")
    def preupload(self, repo_id, revision):
        """Which files go to LFS, and what each path holds so far, so that the client leaves out what has not changed."""
        held, answer = self.repository(repo_id, write=True).files(revision), []
        for path in (file["path"] for file in self.json["files"]):
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            oid = etag(describe(path, held[path])) if path in held else None
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answer}

    @route(r"POST /{repo}\.git/info/lfs/objects/batch")
    def lfs_batch(self, repo_id):
        """Where to put the objects that are not stored yet. The client names no ref for a pull request."""
        self.repository(repo_id, write="ref" in self.json)
        objects = [{"oid": item["oid"], "size": item["size"]} for item in self.json["objects"]]
        for item in objects:
            if item["oid"] not in self.server.stored:
                item["actions"] = {"upload": {"href": f"{self.server.storage_url}/lfs/{item['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    @route("PUT /lfs/{name}")
    def lfs_upload(self, oid):
        if hashlib.sha256(self.content).hexdigest() != oid:
            raise HubError(400, "The content is not that of the announced sha256")
        self.server.stored[oid] = self.content
        return {}

    @route("POST /api/models/{repo}/commit/{name}")
    def create_commit(self, repo_id, revision):
        """A commit comes as lines of JSON: small files in base64, files in LFS by their sha256, and deletions."""
        repository = self.repository(repo_id, write=True)
        header, *operations = [json.loads(line) for line in self.content.splitlines()]
        changes = {}
        for key, value in ((operation["key"], operation["value"]) for operation in operations):
            if key == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                changes[value["path"]] = self.server.stored[value["oid"]]
            elif key == "deletedFile":
                changes[value["path"]] = None
        answer, names = {}, repository.pull_requests if revision in repository.pull_requests else repository.branches
        if "create_pr" in self.query:
            number = len(repository.pull_requests) + 1
            names, base, revision = repository.pull_requests, repository.resolve(revision), f"refs/pr/{number}"
            names[revision] = base
            answer["pullRequestUrl"] = f"{self.server.url}/{repo_id}/discussions/{number}"
        elif revision not in names:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        commit = repository.add(changes, header["value"]["summary"], names, revision)
        return {**answer, "commitOid": commit, "commitUrl": f"{self.server.url}/{repo_id}/commit/{commit}"}

    @route("GET /{repo}/resolve/{name}/(.+)")
    def resolve(self, repo_id, revision, path):
        """A file of a revision: its bytes, or for a file in LFS where they are stored."""
        repository = self.repository(repo_id)
        if repository.gated and self.user() != repository.owner:
            status, message = (403, " and you are not in the authorized list.") if self.user() else (401, ". Please log in.")
            raise HubError(status, f"Access to model {repo_id} is restricted{message}", "GatedRepo")
        commit = repository.resolve(revision)
        files = repository.files(commit)
        if path not in files:
            raise HubError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit})
        entry = describe(path, files[path])
        self.answer_headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(entry)}"'}
        if "lfs" not in entry:
            return files[path]
        self.server.stored[etag(entry)] = files[path]
        self.status = 302
        self.answer_headers |= {
            "X-Linked-Etag": f'"{etag(entry)}"',
            "X-Linked-Size": len(files[path]),
            "Location": f"{self.server.storage_url}/cdn/{etag(entry)}/{quote(path)}",
        }
        return b"Found"

    @route("GET /cdn/{name}/.+")
    def stored_file(self, oid):
        self.answer_headers = {"ETag": f'"{oid}"'}
        return self.server.stored[oid]
