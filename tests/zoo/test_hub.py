"""Publishing to a Hub and loading from it, by the real client against a server on this machine, also when things go wrong."""

import errno
import hashlib
import json
import os
import pathlib
import shutil

import h5py
import huggingface_hub
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import constants, file_download

from keras_interp import zoo
from keras_interp.cli import main
from keras_interp.models import LabelSensitiveClassifier
from keras_interp.zoo import artifacts, listing, store
from keras_interp.zoo import hub as client
from tests.programs import run_program
from tests.tiny import tiny_backbone
from tests.zoo.hub_server import Fault
from tools.release import release_location

REPOSITORY = "alice/jays"
SMALL = "fl_mlp_ixor"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """A small model's folder; tests that alter it take a copy."""
    keras.utils.set_random_seed(0)
    model = LabelSensitiveClassifier(tiny_backbone(), class_names=("cat", "dog", "ship")).compile_by_default()
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    return artifacts.save(model, tmp_path_factory.mktemp("zoo") / "jays", images)


@pytest.fixture
def folder(artifact, tmp_path):
    """A copy, with a picture that need not be drawn."""
    folder = shutil.copytree(artifact, tmp_path / "jays")
    (folder / "explanation.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def files(artifact):
    """What a published repository holds, {path: bytes}."""
    return {path.name: path.read_bytes() for path in artifact.iterdir()}


@pytest.fixture
def alice(hub, monkeypatch):
    """The server, and the user logged in."""
    monkeypatch.setenv("HF_TOKEN", "alice-token")
    return hub


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)


@pytest.fixture
def on_the_hub(hub, tmp_path, monkeypatch):
    """A zoo model whose weights are not here but in a repository: its name, and the files of the repository."""
    source = artifacts.shipped_folder(SMALL)
    content = {path.name: path.read_bytes() for path in source.iterdir()}
    commit = hub.commit("alice/ixor", content)
    (tmp_path / "hub.json").write_text(json.dumps({SMALL: f"hf://alice/ixor@{commit}"}))
    for module in (listing, store):
        monkeypatch.setattr(module, "LOCATIONS", tmp_path / "hub.json")
    monkeypatch.setattr(artifacts, "shipped_folder", lambda name: None)
    return SMALL, content


def check_cache(tmp_path):
    """The cache holds whole files only: each has the hash that it is named by."""
    blobs = [path for path in (tmp_path / "cache").rglob("blobs/*") if path.is_file()]
    for path in blobs:
        content = path.read_bytes()
        assert path.name in (
            hashlib.sha256(content).hexdigest(),
            hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        )
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    return blobs


def writes(server):
    """How many requests tried to change something."""
    return server.count("POST .*(create|commit|tag|branch)|PUT")


# Publishing


def test_publish_a_folder_and_load_it(alice, folder, images):
    (folder / "checkpoint.weights.h5").write_bytes(b"secret")
    (folder / "backup").mkdir()
    published = zoo.publish(folder, REPOSITORY, license="mit")
    repository = alice.repositories[REPOSITORY]
    uploaded = {path: content for path, content in repository.files().items() if path != ".gitattributes"}
    names = {"config.json", "metadata.json", "model.weights.h5", "golden.npz", "README.md", "explanation.png"}
    assert set(uploaded) == names
    assert uploaded["model.weights.h5"] == (folder / "model.weights.h5").read_bytes()
    assert published.sha256 == {path: hashlib.sha256(content).hexdigest() for path, content in uploaded.items()}
    assert repository.tags == {"v0.1.0": published.reference.revision} and published.tag == "v0.1.0"
    assert published.url.endswith(published.reference.revision)

    expected = zoo.load(folder).predict(images, verbose=0)
    for name in (f"hf://{REPOSITORY}", f"hf://{REPOSITORY}@v0.1.0", f"hf://{REPOSITORY}@main", str(published.reference)):
        model = zoo.load(name)
        assert model.class_names == ("cat", "dog", "ship")
        np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
    model.fit(images, np.arange(16) % 3, verbose=0)
    model.explain(images).check_completeness(1e-3)


def test_card_of_ones_own_model(alice, folder):
    zoo.publish(folder, REPOSITORY, license="mit")
    card = huggingface_hub.ModelCard(alice.repositories[REPOSITORY].files()["README.md"].decode())
    data = card.data.to_dict()
    assert data["license"] == "mit" and data["library_name"] == "keras" and "keras-interp" in data["tags"]
    assert f'zoo.load("hf://{REPOSITORY}")' in card.text and "LabelSensitiveClassifier" in card.text
    assert "Outputs: cat, dog, ship." in card.text and "No measured figures" in card.text


def test_publish_a_model_with_measured_figures(alice, folder):
    model = zoo.load(folder)
    definitions = {"accuracy": "share of images whose largest logit is the label's"}
    metrics = {"split": "my test", "examples": 90, "seed": 0, "values": {"accuracy": 0.8125}, "definitions": definitions}
    zoo.publish(model, REPOSITORY, license="mit", private=True)
    assert alice.repositories[REPOSITORY].private
    (folder / "metrics.json").write_text(json.dumps(metrics))
    zoo.publish(folder, REPOSITORY)  # The license is that of the card.
    card = huggingface_hub.ModelCard(alice.repositories[REPOSITORY].files()["README.md"].decode())
    assert card.data.eval_results[0].metric_value == 0.8125 and "## Measured on my test (90 examples)" in card.text


def test_publish_a_zoo_model(alice):
    published = zoo.publish(SMALL, "alice/ixor")
    card = alice.repositories["alice/ixor"].files()["README.md"].decode()
    assert 'zoo.load("hf://alice/ixor")' in card and "license: apache-2.0" in card and "## Citation" in card
    assert f"{zoo.info(SMALL).metrics['accuracy']:.4f}" in card
    for name, pin in zoo.info(SMALL).sha256.items():
        assert name == "README.md" or published.sha256[name] == pin
    assert zoo.load("hf://alice/ixor").name == SMALL


def test_sections_that_a_person_wrote_stay(alice, folder):
    (folder / "README.md").write_text(
        "---\nlicense: mit\n---\n# Jays\n\n## Licence\n\nMIT.\n\n## How I took the pictures\n\nIn the woods.\n"
    )
    zoo.publish(folder, REPOSITORY)
    files = alice.repositories[REPOSITORY].files()
    theirs = files["README.md"].decode().replace("library_name: keras", "library_name: keras\nbase_model: a/b")
    theirs = theirs.replace("A research model", "Edited here, and lost: a research model")
    alice.commit(REPOSITORY, {"README.md": (theirs + "\n## Feedback\n\n```\n## no heading\n```\nNone yet.\n").encode()})
    zoo.publish(folder, REPOSITORY)
    card = alice.repositories[REPOSITORY].files()["README.md"].decode()
    for text in (
        "## How I took the pictures\n\nIn the woods.",
        "## Feedback\n\n```\n## no heading\n```\nNone yet.",
        "base_model: a/b",
    ):
        assert card.count(text) == 1
    assert card.count("## License") == 1 and "Licence" not in card and "Edited here" not in card


def test_what_belongs_to_other_weights_goes(alice, folder):
    (folder / "training_log.csv").write_text("epoch")
    (folder / "explanation.png").write_bytes(b"picture")
    zoo.publish(folder, REPOSITORY, license="mit")
    assert alice.repositories[REPOSITORY].files()["explanation.png"] == b"picture"
    alice.commit(REPOSITORY, {"notes.txt": b"mine"})
    (folder / "training_log.csv").unlink()
    (folder / "explanation.png").unlink()
    zoo.publish(folder, REPOSITORY)
    files = alice.repositories[REPOSITORY].files()
    assert "training_log.csv" not in files and files["notes.txt"] == b"mine"
    # Without a picture, the golden inputs are explained in one.
    assert files["explanation.png"].startswith(b"\x89PNG") and b"](explanation.png)" in files["README.md"]


def test_sections_whose_headings_only_resemble_ours_stay(alice, folder):
    own = "\n\n".join(
        f"{heading}\n\nText." for heading in ("## Limits of my camera", "## Measured on the street", "# Field notes")
    )
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Jays\n\n## Limits\n\nOld.\n\n{own}\n")
    zoo.publish(folder, REPOSITORY)
    card = alice.repositories[REPOSITORY].files()["README.md"].decode()
    assert own in card and "Old." not in card


def test_the_card_of_a_branch_is_its_own(alice, folder):
    zoo.publish(folder, REPOSITORY, license="mit", revision="next")
    repository = alice.repositories[REPOSITORY]
    card = repository.files("next")["README.md"] + b"\n## Feedback\n\nGood.\n"
    repository.add({"README.md": card}, "", repository.branches, "next")
    zoo.publish(folder, REPOSITORY, revision="next")
    assert b"## Feedback\n\nGood." in repository.files("next")["README.md"]


def test_card_of_a_zoo_model_on_other_data(alice, tmp_path):
    folder = shutil.copytree(artifacts.shipped_folder(SMALL), tmp_path / "own")
    (folder / "README.md").unlink()
    (folder / "metrics.json").unlink()
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["keras_interp"]["provenance"]["dataset"] = "my photos"
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="license of the weights"):
        zoo.publish(folder, "alice/own")
    zoo.publish(folder, "alice/own", license="cc-by-4.0")
    card = huggingface_hub.ModelCard(alice.repositories["alice/own"].files()["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and card.data.datasets is None and "Apache" not in card.text


def test_publish_what_lies_on_the_hub(alice, on_the_hub):
    name, content = on_the_hub
    zoo.publish(name, "alice/copy")
    zoo.publish("hf://alice/ixor", "alice/another", license="mit")
    for copy in ("alice/copy", "alice/another"):
        assert alice.repositories[copy].files()["golden.npz"] == content["golden.npz"]
    assert b"Code: Apache-2.0. Weights: mit." in alice.repositories["alice/another"].files()["README.md"]


def test_publish_a_plain_keras_model(alice):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    zoo.publish(model, "alice/plain", license="mit")
    card = alice.repositories["alice/plain"].files()["README.md"].decode()
    assert "model.predict(rows)" in card and "explain" not in card and "model.class_names" not in card
    free = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="any input size is saved to a folder first"):
        zoo.publish(free, "alice/free", license="mit")


def test_a_public_repository_is_not_taken_for_a_private_one(alice, folder):
    zoo.publish(folder, REPOSITORY, license="mit")
    before = alice.repositories[REPOSITORY].branches["main"]
    with pytest.raises(ValueError, match="public already"):
        zoo.publish(folder, REPOSITORY, private=True)
    assert alice.repositories[REPOSITORY].branches["main"] == before


def test_a_commit_without_its_tag_is_named(alice, folder):
    alice.faults.append(Fault("POST .*/tag/", times=None, status=500))
    with pytest.raises(zoo.HubError, match=r"published as hf://alice/jays@[0-9a-f]{40}, only the tag 'v0.1.0' is missing"):
        zoo.publish(folder, REPOSITORY, license="mit")
    (folder / "training_log.csv").write_text("epoch")
    alice.faults[:] = [Fault("POST .*/commit/", times=1, status=503)]
    with pytest.raises(zoo.HubError, match="try again later"):
        zoo.publish(folder, REPOSITORY, license="mit", create_pr=True)
    assert alice.count("POST .*/commit/.*create_pr") == 1


def test_an_upload_that_is_refused(alice, folder):
    alice.faults.append(Fault("PUT /lfs", times=None, status=403))
    with pytest.raises(zoo.HubError, match=r"does not allow this.*403"):
        zoo.publish(folder, REPOSITORY, license="mit")


def test_branch_pull_request_and_tags(alice, folder):
    first = zoo.publish(folder, REPOSITORY, license="mit", tag="first")
    assert alice.repositories[REPOSITORY].tags == {"first": first.reference.revision}
    request = zoo.publish(folder, REPOSITORY, license="apache-2.0", create_pr=True)
    assert "/discussions/1" in request.url and request.tag is None
    branch = zoo.publish(folder, REPOSITORY, license="cc0-1.0", revision="next")
    assert branch.tag == "v0.1.0" and alice.repositories[REPOSITORY].branches["next"] == branch.reference.revision
    assert alice.repositories[REPOSITORY].branches["main"] == first.reference.revision
    again = zoo.publish(folder, REPOSITORY, license="unlicense")
    assert again.tag is None and alice.repositories[REPOSITORY].branches["main"] == again.reference.revision
    with pytest.raises(ValueError, match=r"has a tag of that name.*tag='first'"):
        zoo.publish(folder, REPOSITORY, tag="first")


def damage_golden(folder):
    with np.load(folder / "golden.npz") as golden:
        np.savez(folder / "golden.npz", inputs=golden["inputs"], logits=golden["logits"] + 0.5)


def link_the_log(folder):
    (folder.parent / "id_rsa").write_text("secret")
    (folder / "training_log.csv").symlink_to(folder.parent / "id_rsa")


def test_nothing_leaves_the_machine_unchecked(alice, folder, tmp_path):
    def refused(error, match, change=lambda path: None, **options):
        path = shutil.copytree(folder, tmp_path / "copy")
        change(path)
        with pytest.raises(error, match=match):
            zoo.publish(path, REPOSITORY, **options)
        shutil.rmtree(path)

    refused(ValueError, "license of the weights must be given")
    mit = {"license": "mit"}
    refused(artifacts.ArtifactError, "golden outputs.*differ by up to 0.5", damage_golden, **mit)
    refused(artifacts.ArtifactError, "without golden.npz", lambda path: (path / "golden.npz").unlink(), **mit)
    refused(artifacts.ArtifactError, "damaged", lambda path: (path / "model.weights.h5").write_bytes(b"no"), **mit)
    refused(artifacts.ArtifactError, "without config.json", lambda path: (path / "config.json").unlink(), **mit)
    refused(
        artifacts.ArtifactError, "golden outputs cannot be read", lambda path: (path / "golden.npz").write_bytes(b"PK"), **mit
    )
    refused(artifacts.ArtifactError, "Links are not published", link_the_log, **mit)
    refused(artifacts.ArtifactError, "that keras-interp saved", lambda path: (path / "metadata.json").write_text("{}"), **mit)
    with pytest.raises(KeyError, match="no model of that name"):
        zoo.publish("no_such_model", REPOSITORY)
    with pytest.raises(FileNotFoundError, match="weights are neither in this installation"):
        zoo.publish("dynk5_resnet18_cifar10", REPOSITORY)
    with pytest.raises(ValueError, match="hf://user/repo"):
        zoo.publish(folder, "jays", license="mit")
    with pytest.raises(ValueError, match="A fault of the test"):
        alice.faults.append(Fault("POST /api/validate-yaml", status=400))
        zoo.publish(folder, REPOSITORY, license="mit")
    assert not alice.repositories and not writes(alice)


def test_publishing_needs_a_login_and_the_right(hub, folder, monkeypatch):
    with pytest.raises(zoo.HubError, match="log in with `hf auth login`"):
        zoo.publish(folder, REPOSITORY, license="mit")
    monkeypatch.setenv("HF_TOKEN", "bob-token")
    with pytest.raises(zoo.HubError, match=r"does not allow this.*alice/jays"):
        zoo.publish(folder, REPOSITORY, license="mit")
    monkeypatch.setenv("HF_TOKEN", "no-such-token")
    with pytest.raises(zoo.HubError, match="log in with `hf auth login`"):
        zoo.publish(folder, REPOSITORY, license="mit")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(zoo.HubError, match="HF_HUB_OFFLINE is set"):
        zoo.publish(folder, REPOSITORY, license="mit")
    assert not hub.repositories


@pytest.mark.parametrize("match", ["GET /api/models", "POST /api/repos", "POST .*preupload", "PUT /lfs", "POST .*/commit/"])
def test_publishing_to_an_overloaded_hub(alice, folder, match):
    alice.faults.append(Fault(match, times=2, status=503))
    published = zoo.publish(folder, REPOSITORY, license="mit")
    assert zoo.load(str(published.reference)).class_names == ("cat", "dog", "ship") and not alice.faults


# Loading


def test_references():
    assert client.Reference.parse("hf://a/b@refs/pr/1") == client.Reference("a/b", "refs/pr/1")
    for text in ("hf://a", "hf://a/b/c", "hf://a/b@", "hf:// a/b", "hf://a/b@x y"):
        with pytest.raises(ValueError, match=r"hf://user/repo@revision. Received"):
            zoo.load(text)


def test_a_commit_is_loaded_as_it_was(hub, folder, files, tmp_path):
    old = hub.commit(REPOSITORY, files)
    model = zoo.load(folder)
    model.class_names = ("jay", "tit", "wren")
    new = artifacts.save(model, tmp_path / "new", None)
    hub.commit(REPOSITORY, {path.name: path.read_bytes() for path in new.iterdir()})
    assert zoo.load(f"hf://{REPOSITORY}").class_names == ("jay", "tit", "wren")
    assert zoo.load(f"hf://{REPOSITORY}@{old}").class_names == ("cat", "dog", "ship")


def test_only_needed_files_and_a_pinned_commit_only_once(hub, files, tmp_path):
    commit = hub.commit(REPOSITORY, files | {"README.md": b"# Jays", "big.bin": bytes(10**6)})
    zoo.load(f"hf://{REPOSITORY}@{commit}")
    assert len(check_cache(tmp_path)) == 3 and hub.count(".*(README|big|golden)") == 0
    hub.requests.clear()
    zoo.load(f"hf://{REPOSITORY}@{commit}")
    assert not hub.requests


def test_offline(hub, files, monkeypatch):
    hub.commit(REPOSITORY, files)
    zoo.load(f"hf://{REPOSITORY}")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert zoo.load(f"hf://{REPOSITORY}").class_names == ("cat", "dog", "ship")
    with pytest.raises(zoo.HubError, match=r"HF_HUB_OFFLINE is set.*alice/other"):
        zoo.load("hf://alice/other")
    with pytest.raises(zoo.HubError, match=r"HF_HUB_OFFLINE is set.*alice"):
        zoo.list_models(hub="alice")
    assert not hub.requests


def test_an_overloaded_hub_does_not_make_an_old_model_new(hub, files, tmp_path):
    hub.commit(REPOSITORY, files)
    zoo.load(f"hf://{REPOSITORY}")
    new = hub.commit(REPOSITORY, {"config.json": files["config.json"].replace(b"cat", b"tit")})
    hub.faults.append(Fault("GET /api/models", times=2, status=503))
    assert zoo.load(f"hf://{REPOSITORY}").class_names == ("tit", "dog", "ship")
    hub.commit(REPOSITORY, {"config.json": files["config.json"]})
    hub.faults.append(Fault("GET /api/models", times=None, status=503))
    with pytest.warns(UserWarning, match="which may be outdated"):
        assert store.find_folder(f"hf://{REPOSITORY}").name == new


def test_names_that_persons_gave_come_along(hub, artifact, files, monkeypatch):
    found = store.NEEDED
    hub.commit(REPOSITORY, files | {"concepts.json": b"{}"})
    folder = store.find_folder(f"hf://{REPOSITORY}")
    assert sorted(path.name for path in folder.iterdir()) == sorted(found)


def test_a_zoo_model_from_the_hub(on_the_hub, hub, tmp_path):
    name, _ = on_the_hub
    info = zoo.info(name)
    assert info.trained and info.location.startswith("hf://alice/ixor@") and name in zoo.list_models(trained=True)
    assert zoo.load(name).name == name
    hub.requests.clear()
    assert zoo.load(name).name == name and not hub.requests
    assert len(check_cache(tmp_path)) == 3


def test_a_zoo_model_must_be_the_pinned_one(on_the_hub, hub, tmp_path):
    name, content = on_the_hub
    commit = hub.repositories["alice/ixor"].branches["main"]
    # The Hub changes a commit, and all that it says of it.
    theirs = hub.repositories["alice/ixor"].commits[commit].files
    theirs["metadata.json"] = content["metadata.json"].replace(b"0.1.0", b"6.6.6")
    with pytest.raises(artifacts.ArtifactError, match=r"that keras-interp pins.*do not trust.*metadata.json"):
        zoo.load(name)
    theirs["metadata.json"] = content["metadata.json"]
    assert zoo.load(name).name == name
    check_cache(tmp_path)


def test_maintainers_note_where_a_model_is(alice, tmp_path, monkeypatch):
    for module in (listing, store):
        monkeypatch.setattr(module, "LOCATIONS", tmp_path / "hub.json")
    listing.LOCATIONS.write_text("{}")
    published = zoo.publish(SMALL, "alice/ixor")
    with pytest.raises(ValueError, match="must name a commit"):
        release_location(SMALL, "hf://alice/ixor")
    with pytest.raises(artifacts.ArtifactError, match="keras-interp pins"):
        release_location("fl_mlp_mnist", str(published.reference))
    release_location(SMALL, str(published.reference))
    assert zoo.info(SMALL).location == str(published.reference)


def test_keras_itself_loads_a_published_model(alice, folder, images):
    zoo.publish(folder, REPOSITORY, license="mit")
    model = keras.saving.load_model(f"hf://{REPOSITORY}")
    np.testing.assert_allclose(model.predict(images, verbose=0), zoo.load(folder).predict(images, verbose=0), atol=1e-5)


def test_a_foreign_repository_in_the_layout_of_keras(hub, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)])
    # As most are: with the state of an optimizer and of metrics.
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    keras.saving.save_model(model, tmp_path / "plain", zipped=False)
    hub.commit("bob/plain", {path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir() if path.is_file()})
    rows = np.ones((2, 4), "float32")
    np.testing.assert_allclose(zoo.load("hf://bob/plain").predict(rows, verbose=0), model.predict(rows, verbose=0), atol=1e-6)
    with pytest.raises(artifacts.ArtifactError, match="that keras-interp saved"):
        zoo.publish("hf://bob/plain", REPOSITORY, license="mit")


# Lists and mirrors


def test_list_what_a_user_has(alice, folder, files):
    zoo.publish(folder, REPOSITORY, license="mit", private=True)
    zoo.publish(folder, "alice/tits", license="mit")
    alice.commit("alice/other", {"README.md": b"---\ntags: [x]\n---\n"})
    assert zoo.list_models(hub="alice") == ["hf://alice/jays", "hf://alice/tits"]
    assert zoo.list_models("j*", hub="alice") == ["hf://alice/jays"] and zoo.list_models(hub="bob") == []
    result = CliRunner().invoke(main, ["list", "--hub", "alice"], env={"COLUMNS": "120"})
    assert result.exit_code == 0 and "hf://alice/jays" in result.output and "mit" in result.output
    odd = b"---\ntags: [keras-interp]\ndatasets: cifar10\nlicense: [mit, other]\n---\n"
    alice.commit("alice/odd", {"README.md": odd})
    result = CliRunner().invoke(main, ["list", "--hub", "alice"], env={"COLUMNS": "120"})
    assert result.exit_code == 0 and "cifar10" in result.output and "mit, other" in result.output


def test_mirror(hub, files, tmp_path, monkeypatch):
    hub.commit(REPOSITORY, files | {"README.md": b"# Jays", "training_log.csv": b"epoch", "secret.txt": b"no"})
    mirror = tmp_path / "mirror"
    assert zoo.download([SMALL, f"hf://{REPOSITORY}@main"], mirror) == [mirror / SMALL, mirror / "jays"]
    assert sorted(path.name for path in (mirror / "jays").iterdir()) == sorted([*files, "README.md", "training_log.csv"])
    assert zoo.load(mirror / "jays").class_names == ("cat", "dog", "ship")
    # An installation without this model finds it in the mirror, by name.
    monkeypatch.setattr(artifacts, "shipped_folder", lambda name: None)
    with pytest.raises(FileNotFoundError, match="Set KERAS_INTERP_ZOO"):
        zoo.load(SMALL)
    monkeypatch.setenv("KERAS_INTERP_ZOO", str(mirror))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert zoo.load(SMALL).name == SMALL and SMALL in zoo.list_models(trained=True)
    (mirror / SMALL / "metadata.json").write_text("{}")
    with pytest.raises(artifacts.ArtifactError, match="not the published one"):
        zoo.load(SMALL)


def test_mirrors_do_not_mix(hub, files, tmp_path):
    hub.commit(REPOSITORY, files | {"training_log.csv": b"epoch"})
    hub.commit("bob/jays", files)
    with pytest.raises(ValueError, match="Two models would go to"):
        zoo.download([f"hf://{REPOSITORY}", "hf://bob/jays"], tmp_path)
    with pytest.raises(KeyError, match="no model of that name"):
        zoo.download("../jays", tmp_path / "mirror")
    zoo.download(f"hf://{REPOSITORY}", tmp_path)
    (target,) = zoo.download("hf://bob/jays", tmp_path)
    assert {path.name for path in target.iterdir()} == set(files)


def test_mirror_of_a_model_on_the_hub(on_the_hub, tmp_path):
    name, content = on_the_hub
    (target,) = zoo.download(name, tmp_path / "mirror")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == content


def test_commands(alice, folder, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    result = run("publish", folder, REPOSITORY, "--license", "mit", "--private", "--tag", "v1")
    commit = alice.repositories[REPOSITORY].branches["main"]
    assert result.exit_code == 0 and "tagged v1" in result.output and f"hf://{REPOSITORY}@{commit}" in result.output
    result = run("download", f"hf://{REPOSITORY}", "--output", tmp_path / "mirror")
    assert result.exit_code == 0 and f"Wrote {tmp_path / 'mirror' / 'jays'}" in result.output
    result = run("download", "hf://alice/nothing")
    assert result.exit_code == 1 and "Error: The Hub knows no such repository" in result.output


# Faults. After each the next good call works, and the cache holds no half file.


def test_connection_refused(hub, files, tmp_path, monkeypatch):
    hub.commit(REPOSITORY, files)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(zoo.HubError, match=r"http://127.0.0.1:9 cannot be reached.*alice/jays"):
        zoo.load(f"hf://{REPOSITORY}")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    zoo.load(f"hf://{REPOSITORY}")
    # Once loaded, the cache will do.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match=r"Using the cached copy of hf://alice/jays.*cannot be reached"):
        zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


def test_no_access(hub, files, tmp_path, monkeypatch):
    hub.commit(REPOSITORY, files, private=True)
    with pytest.raises(zoo.HubError, match=r"no such repository, or it is private.*hf auth login.*alice/jays"):
        zoo.load(f"hf://{REPOSITORY}")
    monkeypatch.setenv("HF_TOKEN", "no-such-token")
    with pytest.raises(zoo.HubError, match="hf auth login"):
        zoo.load(f"hf://{REPOSITORY}")
    monkeypatch.setenv("HF_TOKEN", "bob-token")
    with pytest.raises(zoo.HubError, match="no such repository"):
        zoo.load(f"hf://{REPOSITORY}")
    hub.repositories[REPOSITORY].private = False
    hub.repositories[REPOSITORY].gated = "manual"
    with pytest.raises(zoo.HubError, match="Request access"):
        zoo.load(f"hf://{REPOSITORY}")
    monkeypatch.setenv("HF_TOKEN", "alice-token")
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "log in with"), (403, "does not allow this"), (404, "check the name of the repository")]
)
def test_refusals(hub, files, tmp_path, status, advice):
    hub.commit(REPOSITORY, files)
    hub.faults.append(Fault("GET /api/models", status=status))
    with pytest.raises(zoo.HubError, match=rf"{advice}.* Received: hf://alice/jays"):
        zoo.load(f"hf://{REPOSITORY}")
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


def test_what_is_not_there(hub, files, tmp_path):
    hub.commit(REPOSITORY, {name: content for name, content in files.items() if name != "model.weights.h5"})
    with pytest.raises(zoo.HubError, match=r"no such repository.*alice/nothing"):
        zoo.load("hf://alice/nothing")
    with pytest.raises(zoo.HubError, match=r"no such branch, tag or commit.*alice/jays@v9"):
        zoo.load(f"hf://{REPOSITORY}@v9")
    with pytest.raises(zoo.HubError, match=r"alice/jays, of which .* has no model.weights.h5"):
        zoo.load(f"hf://{REPOSITORY}")
    hub.commit(REPOSITORY, files)
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


@pytest.mark.parametrize("match", ["GET /api/models", "GET /api/models/.*/tree", "HEAD", "GET /cdn", "GET /alice.*config"])
def test_overloaded(hub, files, tmp_path, match):
    hub.commit(REPOSITORY, files)
    hub.faults.append(Fault(match, times=2, status=503))
    zoo.load(f"hf://{REPOSITORY}")
    assert not hub.faults
    check_cache(tmp_path)


def test_overloaded_for_long(hub, files, tmp_path):
    hub.commit(REPOSITORY, files)
    hub.faults.append(Fault("GET /cdn", times=None, status=503))
    with pytest.raises(zoo.HubError, match=r"try again later.*alice/jays.*503"):
        zoo.load(f"hf://{REPOSITORY}")
    hub.faults.clear()
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


def test_a_body_cut_short_is_resumed(hub, files, tmp_path):
    hub.commit(REPOSITORY, files)
    hub.faults.append(Fault("GET /cdn/.*weights", body_cut=3500))
    zoo.load(f"hf://{REPOSITORY}")
    assert hub.count("GET /cdn/.*weights.* 206") == 1  # The rest alone was sent.
    check_cache(tmp_path)


def test_a_body_cut_short_again_and_again(hub, files, tmp_path):
    hub.commit(REPOSITORY, files)
    hub.faults.append(Fault("GET /cdn/.*weights", times=None, body_cut=100))
    with pytest.raises(zoo.HubError, match=r"has disconnected.*alice/jays"):
        zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)
    hub.faults.clear()
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


@pytest.mark.parametrize("name", ["model.weights.h5", "config.json"])
def test_bytes_that_changed_under_a_pinned_commit(hub, files, tmp_path, name):
    commit = hub.commit(REPOSITORY, files)
    changed = bytearray(files[name])
    changed[len(changed) // 2] ^= 1
    hub.faults.append(Fault(f"GET /(cdn|alice)/.*{name}", body=bytes(changed)))
    with pytest.raises(artifacts.ArtifactError, match=f"not those that it announces.*alice/jays.*{name}"):
        zoo.load(f"hf://{REPOSITORY}@{commit}")
    check_cache(tmp_path)
    zoo.load(f"hf://{REPOSITORY}@{commit}")
    check_cache(tmp_path)


def test_a_file_in_the_cache_that_was_damaged(hub, files, tmp_path):
    hub.commit(REPOSITORY, files)
    zoo.load(f"hf://{REPOSITORY}")
    blob = next((tmp_path / "cache").rglob("model.weights.h5")).resolve()
    blob.write_bytes(blob.read_bytes()[:-10])
    with pytest.raises(artifacts.ArtifactError, match=r"not those that it announces.*model.weights.h5"):
        zoo.load(f"hf://{REPOSITORY}")
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


def test_a_full_disk(hub, files, tmp_path, monkeypatch):
    hub.commit(REPOSITORY, files)
    real = file_download.http_get

    class FullDisk:
        """A file that takes 2,000 bytes."""

        def __init__(self, file):
            self.file, self.left = file, 2000

        def write(self, data):
            self.file.write(data[: self.left])
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    with monkeypatch.context() as context:
        context.setattr(file_download, "http_get", lambda url, file, **options: real(url, FullDisk(file), **options))
        with pytest.raises(zoo.HubError, match=r"disk is full: free some space.*alice/jays"):
            zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


def test_eight_processes_into_one_cold_cache(hub, files, tmp_path):
    hub.commit(REPOSITORY, files)
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    assert run_program("eight_processes", f"hf://{REPOSITORY}", **environment).endswith(f"{[0] * 8}\n")
    assert hub.count("GET /cdn") == 1
    assert len(check_cache(tmp_path)) == 3


@pytest.mark.parametrize("path", ["../../evil", "/tmp/evil", "a/../../../evil", "..\\evil"])
def test_a_path_that_climbs_out(hub, files, tmp_path, path):
    hub.commit(REPOSITORY, files | {path: b"evil"})
    before = {one for one in tmp_path.rglob("*") if "cache" not in one.parts}
    zoo.load(f"hf://{REPOSITORY}")
    zoo.download(f"hf://{REPOSITORY}", tmp_path / "mirror")
    after = {one for one in tmp_path.rglob("*") if not {"cache", "mirror"} & set(one.parts)}
    assert after == before and not pathlib.Path("/tmp/evil").exists()
    assert {one.name for one in (tmp_path / "mirror").rglob("*") if one.is_file()} == set(files)
    assert not any("evil" in request for request in hub.requests)


def test_a_class_outside_the_allow_list(hub, files, tmp_path):
    foreign = {
        "module": "os",
        "class_name": "system",
        "config": {"command": f"touch {tmp_path}/evil"},
        "registered_name": None,
    }
    config = json.loads(files["config.json"])
    config["config"]["backbone"] = foreign
    hub.commit("bob/evil", files | {"config.json": json.dumps(config).encode()})
    with pytest.raises(artifacts.ArtifactError, match=r"outside the allow-list.*os\.system"):
        zoo.load("hf://bob/evil")
    assert not (tmp_path / "evil").exists()
    hub.commit(REPOSITORY, files)
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


def test_ten_gigabytes_in_a_small_file(hub, files, folder, tmp_path):
    with h5py.File(folder / "model.weights.h5", "a") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        largest = max(names, key=lambda name: file[name].size)
        del file[largest]
        file.create_dataset(largest, shape=(2_500_000_000,), dtype="float32", chunks=(1_000_000,), compression="gzip")
    small = (folder / "model.weights.h5").read_bytes()
    assert len(small) < 10**6
    hub.commit("bob/large", files | {"model.weights.h5": small})
    with pytest.raises(artifacts.ArtifactError, match=r"do not fit.*2,500,0\d\d,\d\d\d numbers for a model of"):
        zoo.load("hf://bob/large")
    hub.commit(REPOSITORY, files)
    zoo.load(f"hf://{REPOSITORY}")
    check_cache(tmp_path)


@pytest.mark.parametrize("kind", ["soft", "external", "storage"])
def test_weights_that_lead_to_another_file(folder, tmp_path, kind):
    with h5py.File(folder / "model.weights.h5", "a") as file:
        if kind == "soft":
            file["link"] = h5py.SoftLink("/layers")
        elif kind == "external":
            file["link"] = h5py.ExternalLink(tmp_path / "other.h5", "/")
        else:
            file.create_dataset("data", (1,), "uint8", external=[(str(tmp_path / "secret"), 0, 1)])
    with pytest.raises(artifacts.ArtifactError, match=r"is a link|from another file"):
        zoo.load(folder)
