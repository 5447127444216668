import hashlib
import os

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, errors

from tests.zoo.hub_server import Fault

CARD = "---\nlicense: mit\nlibrary_name: keras\ntags:\n- digits\n---\n\n# A model\n"


@pytest.fixture
def alice(hub):
    return HfApi(token="alice-token")


@pytest.fixture
def weights(rng):
    return rng.bytes(10_000)


def write(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_upload_and_download(hub, alice, weights, tmp_path):
    assert alice.whoami()["name"] == "alice"
    assert not alice.repo_exists("alice/model")
    assert alice.create_repo("alice/model", private=True).repo_id == "alice/model"
    alice.create_repo("alice/model", exist_ok=True)
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        alice.create_repo("alice/model")
    files = {"README.md": CARD.encode(), "config.json": b"{}", "model.weights.h5": weights, "assets/a.png": b"", "b.npz": b"b"}
    first = alice.upload_folder(repo_id="alice/model", folder_path=write(tmp_path / "new", files), commit_message="First")
    repository = hub.repositories["alice/model"]
    assert repository.private and repository.commits[first.oid].message == "First"
    assert repository.files() == {".gitattributes": repository.files()[".gitattributes"], **files}
    assert hub.count("PUT /lfs/") == 2
    again = alice.upload_folder(repo_id="alice/model", folder_path=tmp_path / "new")
    assert again.oid == first.oid and hub.count("POST .*/commit/") == 1

    alice.create_tag("alice/model", tag="v1")
    (tmp_path / "new" / "config.json").write_bytes(b"[]")
    (tmp_path / "new" / "b.npz").unlink()
    second = alice.upload_folder(repo_id="alice/model", folder_path=tmp_path / "new", delete_patterns="*.npz")
    alice.create_branch("alice/model", branch="old", revision="v1")
    request = alice.create_commit(
        "alice/model", [CommitOperationAdd("model.weights.h5", b"better")], commit_message="Better", create_pr=True
    )
    refs = alice.list_repo_refs("alice/model", include_pull_requests=True)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second.oid, "old": first.oid}
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first.oid)]
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests] == [(request.pr_revision, request.oid)]

    for revision in ("v1", "old", first.oid, first.oid[:7]):
        folder = alice.snapshot_download("alice/model", revision=revision)
        assert {path: open(os.path.join(folder, path), "rb").read() for path in files} == files
        assert os.path.basename(folder) == first.oid
    path = alice.hf_hub_download("alice/model", "config.json")
    assert open(path).read() == "[]" and "b.npz" not in alice.list_repo_files("alice/model")
    path = alice.hf_hub_download("alice/model", "model.weights.h5", revision="refs/pr/1")
    assert open(path, "rb").read() == b"better"
    alice.delete_repo("alice/model")
    assert not hub.repositories and not alice.repo_exists("alice/model")


def test_listings(hub, alice, weights):
    paths = ["../../evil", "a/b/c.txt", "model.weights.h5", "README.md"]
    commit = hub.commit("alice/model", dict.fromkeys(paths, weights) | {"README.md": CARD.encode()}, private=True)
    hub.commit("bob/model", {"README.md": b"no card"})
    assert {*alice.list_repo_files("alice/model")} == {*paths}
    tree = alice.list_repo_tree("alice/model", recursive=True)
    assert [entry.path for entry in tree] == ["..", "../..", "../../evil", "README.md", "a", "a/b", "a/b/c.txt", paths[2]]
    assert [entry.path for entry in alice.list_repo_tree("alice/model", "a")] == ["a/b"]
    with pytest.raises(errors.RemoteEntryNotFoundError):
        list(alice.list_repo_tree("alice/model", "none"))

    info = alice.model_info("alice/model", revision="main", files_metadata=True)
    sibling = info.siblings[2]
    assert (info.sha, info.private, sibling.rfilename, sibling.size) == (commit, True, paths[2], len(weights))
    assert sibling.lfs.sha256 == hashlib.sha256(weights).hexdigest()
    assert [model.id for model in huggingface_hub.list_models()] == ["bob/model"]
    (model,) = alice.list_models(author="alice", filter=["digits", "keras"], full=True, cardData=True)
    assert model.card_data.license == "mit" and model.last_modified == info.last_modified and model.sha == commit
    (model,) = alice.list_models(author="alice", expand=["lastModified"])
    assert model.last_modified == info.last_modified and model.tags is None
    assert not list(alice.list_models(author="alice", filter="none"))
    # The client refuses to write outside of its cache.
    with pytest.raises(ValueError, match="evil"):
        alice.snapshot_download("alice/model")


def test_errors(hub, alice):
    hub.commit("alice/open", {"a.txt": b"a"})
    hub.commit("alice/private", {"a.txt": b"a"}, private=True)
    hub.commit("alice/gated", {"a.txt": b"a"})
    hub.repositories["alice/gated"].gated = "manual"

    def status(error, call, *arguments, **keywords):
        with pytest.raises(errors.HfHubHTTPError) as caught:
            call(*arguments, **keywords)
        assert type(caught.value) is error
        return caught.value.response.status_code

    bob, nobody = HfApi(token="bob-token"), HfApi(token=False)
    for call in (bob.model_info, bob.snapshot_download):
        assert status(errors.RepositoryNotFoundError, call, "alice/private") == 404
    for name in ("private", "none"):
        assert status(errors.RepositoryNotFoundError, nobody.snapshot_download, f"alice/{name}") == 401
    assert status(errors.RevisionNotFoundError, nobody.snapshot_download, "alice/open", revision="v9") == 404
    assert status(errors.RemoteEntryNotFoundError, nobody.hf_hub_download, "alice/open", "b.txt") == 404
    assert status(errors.GatedRepoError, bob.snapshot_download, "alice/gated") == 403
    assert status(errors.GatedRepoError, nobody.hf_hub_download, "alice/gated", "a.txt") == 401
    assert alice.hf_hub_download("alice/gated", "a.txt") and bob.repo_exists("alice/gated")
    assert status(errors.HfHubHTTPError, HfApi(token="wrong").whoami) == 401
    assert status(errors.HfHubHTTPError, bob.create_repo, "alice/new") == 403
    for call in (bob.delete_repo, lambda repo: bob.create_tag(repo, tag="v1")):
        assert status(errors.HfHubHTTPError, call, "alice/open") == 403

    def commit(api, **keywords):
        operation = CommitOperationAdd("b.h5", b"b")
        return api.create_commit("alice/open", [operation], commit_message="b", **keywords)

    assert status(errors.HfHubHTTPError, commit, bob) == 403
    assert status(errors.RepositoryNotFoundError, commit, nobody) == 401
    assert commit(bob, create_pr=True).pr_num == 1


def test_faults(hub, weights):
    hub.commit("alice/model", {"config.json": b"{}", "model.weights.h5": weights})

    def download(name="model.weights.h5", **keywords):
        with open(huggingface_hub.hf_hub_download("alice/model", name, **keywords), "rb") as file:
            return file.read()

    hub.faults += [Fault("HEAD", 2, status=503), Fault("GET /cdn/.*weights", body_cut=2500)]
    assert download() == weights and not hub.faults and hub.waits == [1, 1]
    assert hub.count("HEAD .* 503$") == 2 and hub.count("GET /cdn/.* 200$") == 1 and hub.count("GET /cdn/.* 206$") == 1
    hub.faults.append(Fault("GET /cdn/", body=weights[::-1]))
    assert download(force_download=True) == weights[::-1]
    hub.faults.append(Fault("GET /cdn/", body=b"short"))
    with pytest.raises(OSError, match="Consistency check failed"):
        download(force_download=True)
    hub.faults.append(Fault("", None, status=503))
    assert download() == weights[::-1]
    with pytest.raises(errors.LocalEntryNotFoundError):
        download("config.json")
    assert hub.faults


def test_keras(hub, monkeypatch):
    keras = pytest.importorskip("keras")
    monkeypatch.setenv("HF_TOKEN", "alice-token")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save("hf://alice/model")
    loaded = keras.saving.load_model("hf://alice/model")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
