"""The zoo on the Hugging Face Hub: fetch models from there, checked, and publish them."""

import dataclasses
import errno
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping

import huggingface_hub
import keras
import numpy as np
from huggingface_hub import constants, errors

from keras_interp.explain import ConceptNotes
from keras_interp.models.base import InterpretableModel
from keras_interp.models.explanation_module import ConceptExplainer
from keras_interp.zoo import artifacts, cards
from keras_interp.zoo.registry import ENTRIES, get_entry

# Where on the Hub the zoo's models are that do not come with the package, with the commit: {name: "hf://user/repo@commit"}.
LOCATIONS = pathlib.Path(__file__).with_name("hub.json")
# Environment variable with the folder of a mirror, see `download`.
MIRROR = "KERAS_INTERP_ZOO"
# Seconds before the Hub is asked again when it is overloaded.
WAITS = (1, 2, 4)
# Seconds that it may take to answer.
TIMEOUT = 10
# What `load` takes from a repository.
NEEDED = (*artifacts.REQUIRED, artifacts.CONCEPTS)


class HubError(OSError):
    """Something that the Hub, or the way there, did not do; the message says what helps."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model on the Hub.

    Attributes:
        repo_id: "user/repo".
        revision: branch, tag or commit; None for the main branch.

    Example:

    >>> Reference.parse("hf://ada/jays@v1")
    Reference(repo_id='ada/jays', revision='v1')
    >>> str(Reference("ada/jays"))
    'hf://ada/jays'
    """

    repo_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, text):
        """The `Reference` that "hf://user/repo" or "hf://user/repo@revision" names.

        Raises:
            ValueError: for any other text.
        """
        found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text)
        if not found:
            raise ValueError(f"A model on the Hub is named hf://user/repo or hf://user/repo@revision. Received: {text!r}")
        return cls(*found.groups())

    @property
    def is_pinned(self):
        """Whether it names a commit, which alone never changes."""
        return re.fullmatch("[0-9a-f]{40}", self.revision or "") is not None

    def __str__(self):
        return f"hf://{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


def is_reference(name):
    """Whether a name is meant as a model on the Hub."""
    return isinstance(name, str) and name.startswith("hf://")


def location_of(name):
    """The `Reference`, with its commit, of a zoo model that was published, or None."""
    locations = json.loads(LOCATIONS.read_text())
    return Reference.parse(locations[name]) if name in locations else None


def find_local(name):
    """The folder of a zoo model that came with the installation or lies in the mirror, or None."""
    folder = artifacts.shipped_folder(name)
    if folder is None and MIRROR in os.environ:
        mirrored = pathlib.Path(os.environ[MIRROR], name)
        return mirrored if (mirrored / artifacts.CONFIG).is_file() else None
    return folder


def _api():
    from keras_interp import __version__

    return huggingface_hub.HfApi(library_name="keras-interp", library_version=__version__)


def fetch(reference, pins=None, files=NEEDED):
    """Downloads a model into the Hub's own cache, as far as it is not there.

    Args:
        reference: a `Reference`. Of a branch or a tag all files are taken from the commit that it stands for; where the Hub
            cannot be reached, from the one that is in the cache, with a warning.
        pins: {file name: sha256} that the files must have besides, or None.
        files: the files to take, as far as the repository has them; by default those that `load` needs.

    Returns:
        The folder in the cache, which other programs share: it must not be written to.

    Raises:
        HubError: where the Hub does not give them; the message says what helps.
        ArtifactError: for files that are not those that the Hub or the pins announce. They are taken out of the cache.
    """
    unanswered = None if reference.is_pinned else _unanswered(reference)
    try:
        folder = _ask(
            reference,
            _api().snapshot_download,
            reference.repo_id,
            revision=reference.revision,
            allow_patterns=list(files),
            cache_dir=constants.HF_HUB_CACHE,
            local_files_only=unanswered is not None,
        )
    except HubError as error:
        raise unanswered or error from error.__cause__
    if unanswered and not constants.HF_HUB_OFFLINE:
        warnings.warn(f"What the cache has of {reference} is used, which can be old: {unanswered}", stacklevel=2)
    paths = {path.name: path for path in pathlib.Path(folder).iterdir() if path.name in files}
    for name in artifacts.REQUIRED:
        if name not in paths:
            raise HubError(
                f"A model's repository holds {', '.join(artifacts.REQUIRED)}. Received: {reference}, of which {folder} has no "
                f"{name}"
            )
    for name, path in paths.items():
        problem = _problem(path, (pins or {}).get(name))
        if problem:
            # Otherwise every later call would find it. Another process may do the same.
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise artifacts.ArtifactError(
                f"The bytes that came from the Hub are not {problem}. They were taken out of the cache: try again, and if it "
                f"happens again, do not trust this source. Received: {reference} {name}"
            )
    return pathlib.Path(folder)


def _unanswered(reference):
    """The `HubError` of a Hub that cannot be asked about a branch or a tag, or None.

    The client itself would take an old commit from its cache without a word, and wait for ever on a silent Hub.
    """
    try:
        _ask(reference, _api().model_info, reference.repo_id, revision=reference.revision, timeout=TIMEOUT)
    except HubError as error:
        if _is_away(error.__cause__):
            return error
        raise
    return None


def _problem(path, pin):
    """What a file in the cache should be and is not, or None."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "whole any more"
    sha256 = hashlib.sha256(content).hexdigest()
    if pin and sha256 != pin:
        return f"those that keras-interp pins (sha256 {pin[:12]}...)"
    # The cache names files by what the Hub announces: the sha256 of large ones, git's hash of the others.
    announced = path.resolve().name
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", announced) and announced not in (sha256, git):
        return f"those that it announces ({announced[:12]}...)"
    return None


def find_folder(name, files=NEEDED):
    """The folder that `load` takes a model from, after a download where it lies on the Hub.

    Args:
        name: as for `load`.
        files: the files to download, as far as there are such.

    Returns:
        A `pathlib.Path`.

    Raises:
        KeyError, FileNotFoundError, HubError, ArtifactError: as for `load`.
    """
    if is_reference(name):
        return fetch(Reference.parse(name), files=files)
    if isinstance(name, pathlib.Path) or any(separator in name for separator in "/\\"):
        if not pathlib.Path(name).is_dir():
            raise artifacts.ArtifactError(f"There is no folder of a model at this path. Received: {name}")
        return pathlib.Path(name)
    if name not in ENTRIES and pathlib.Path(name, artifacts.CONFIG).is_file():
        return pathlib.Path(name)
    get_entry(name)
    folder, location = find_local(name), location_of(name)
    if folder is None and location is None:
        raise FileNotFoundError(
            f"No weights of this model come with this installation, nor are they on the Hub. Set {MIRROR} to the `zoo` folder "
            f"of a checkout that has them, or train it with: keras-interp train {name} --data-dir DIR, then load the folder "
            f"that it writes. Received: {name!r}"
        )
    return folder or fetch(location, artifacts.pins_of(name), files)


@dataclasses.dataclass(frozen=True)
class Published:
    """A model as it was published.

    Attributes:
        reference: `Reference` with the commit, to load exactly this.
        url: page of the commit, or of the pull request.
        tag: the tag that the commit got, or None.
        sha256: {file name: sha256} of what was uploaded.
    """

    reference: Reference
    url: str
    tag: str | None
    sha256: Mapping


def publish(model, repo_id, private=None, create_pr=False, revision=None, tag=None, licence=None):
    """Publishes a model on the Hub, after a check of all that goes there.

    Only the files of an artifact are uploaded, whatever else the folder holds. The card is written anew, see
    `cards.write_card`: sections that a person wrote, in the folder or on the Hub, stay.

    Args:
        model: a folder that `save` or `train` wrote, the name of a zoo model, or a model of keras-interp.
        repo_id: "user/repo"; made where it does not exist.
        private: whether a new repository is private; by default as the Hub's settings have it.
        create_pr: whether to open a pull request instead of a commit; it gets no tag.
        revision: branch to commit to, made where it does not exist; by default the main one.
        tag: tag of the commit; by default "v" and the version of keras-interp that saved it, where that tag is not taken yet.
        licence: the Hub's name of the licence of the weights, as "mit"; needed for models from outside the zoo.

    Returns:
        A `Published`. Its `reference` is what to load, and to pin.

    Raises:
        ArtifactError: for an artifact that is not whole, or does not give its golden outputs.
        ValueError: for a model without a licence, or a tag that is taken.
        HubError: where the Hub refuses; the message says what helps.
    """
    api, reference = _api(), Reference.parse(f"hf://{repo_id}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = _collect(model, pathlib.Path(scratch) / "artifact")
        loaded, version, entry = check(folder)
        if isinstance(model, str | pathlib.Path):
            _draw_explanation(loaded, entry, folder)
        existing, tags = _look_up(api, repo_id, revision, private)
        if tag in tags:
            raise ValueError(f"The repository has a tag of that name; give another one. Received: tag={tag!r}")
        card = cards.write_card(folder, repo_id, licence, existing, loaded)
        _ask(reference, huggingface_hub.ModelCard.load(card).validate)
        sums = {path.name: artifacts.sha256(path) for path in sorted(folder.iterdir())}
        _ask(reference, api.create_repo, repo_id, private=private, exist_ok=True)
        if revision:
            _ask(reference, api.create_branch, repo_id, branch=revision, exist_ok=True)
        commit = _ask(
            reference,
            api.upload_folder,
            repo_id=repo_id,
            folder_path=folder,
            commit_message=f"Saved with keras-interp {version}",
            revision=revision,
            create_pr=create_pr,
            # A picture or names that were there belong to other weights.
            delete_patterns=list(artifacts.FILES),
            # A pull request that was opened and not confirmed would be opened again.
            retry=not create_pr,
        )
    published = Reference(repo_id, commit.oid)
    if create_pr:
        tag = None
    elif tag is None and f"v{version}" not in tags:
        tag = f"v{version}"
    if tag:
        try:
            _ask(reference, api.create_tag, repo_id, tag=tag, revision=commit.oid, exist_ok=True)
        except HubError as error:
            raise HubError(f"The model is published as {published}, only the tag {tag!r} is missing. {error}") from error
    return Published(published, commit.pr_url or commit.commit_url, tag, sums)


def _look_up(api, repo_id, revision, private):
    """The text of the card in a repository, or None, and its tags.

    Raises:
        ValueError: for a public repository that is to be private.
    """
    if not _ask(repo_id, api.repo_exists, repo_id):
        return None, set()
    if private and not _ask(repo_id, api.model_info, repo_id).private:
        raise ValueError(f"The repository is public already; make it private on its page. Received: {repo_id!r}, private=True")
    refs = _ask(repo_id, api.list_repo_refs, repo_id)
    place = {"filename": artifacts.CARD, "revision": revision if revision in {one.name for one in refs.branches} else None}
    text = None
    if _ask(repo_id, api.file_exists, repo_id, **place):
        text = pathlib.Path(_ask(repo_id, api.hf_hub_download, repo_id, **place, cache_dir=constants.HF_HUB_CACHE)).read_text()
    return text, {one.name for one in refs.tags}


def _collect(model, folder):
    """The files of an artifact, and nothing else, in a folder of their own."""
    if isinstance(model, keras.Model):
        shape, random = (4, *model.input_shape[1:]), np.random.default_rng(0)
        if None in shape:
            raise ValueError(
                f"A model of any input size is saved to a folder first, with `golden_inputs`. Received: shape {shape[1:]}"
            )
        images = len(shape) == 4
        return artifacts.save(
            model, folder, random.integers(0, 256, shape, "uint8") if images else random.normal(size=shape).astype("float32")
        )
    source = find_folder(model, artifacts.FILES)
    if model in ENTRIES:
        artifacts.verify(source, artifacts.pins_of(model, source))
    # The cache of the Hub is made of links.
    if not source.resolve().is_relative_to(pathlib.Path(constants.HF_HUB_CACHE).expanduser().resolve()):
        for name in artifacts.FILES:
            if (source / name).is_symlink():
                raise artifacts.ArtifactError(f"A link is not published; put the file there. Received: {source / name}")
    return copy_artifact(source, folder)


def _draw_explanation(model, entry, folder):
    """Explains the golden inputs in a picture, where there is none and the inputs may be seen."""
    shown = entry is None or entry.shows_examples
    if shown and isinstance(model, InterpretableModel) and not (folder / artifacts.EXPLANATION).is_file():
        with np.load(folder / artifacts.GOLDEN, allow_pickle=False) as golden:
            model.explain(golden["inputs"][:4]).plot(path=folder / artifacts.EXPLANATION)


def copy_artifact(source, folder):
    """Copies the files of an artifact, each whole or not at all, into a folder, in the place of another one's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in artifacts.FILES:
        if not (source / name).is_file():
            # What a person wrote is not thrown away.
            if name != artifacts.CONCEPTS:
                (folder / name).unlink(missing_ok=True)
        else:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                os.replace(shutil.copyfile(source / name, pathlib.Path(scratch) / name), folder / name)
    return folder


def load_folder(folder, pins=None, custom_objects=None):
    """The model in a folder, see `artifacts.load`, with the names that persons gave to its x-features."""
    model = artifacts.load(folder, pins, custom_objects)
    if isinstance(model, ConceptExplainer):
        ConceptNotes(folder / artifacts.CONCEPTS).apply(model)
    return model


def check(folder):
    """Checks an artifact before others get it: it loads, with its names, and gives its golden outputs.

    Returns:
        The model, the version of keras-interp that saved it, and the zoo's `Entry` by which it was trained, or None.

    Raises:
        ArtifactError: for one that is not whole.
        ValueError: for a `concepts.json` that is damaged or of another model.
    """
    model = load_folder(folder)
    metadata = json.loads((folder / artifacts.METADATA).read_text()).get("keras_interp", {})
    if not {"version", "provenance"} <= set(metadata):
        raise artifacts.ArtifactError(f"Only artifacts that keras-interp saved are published. Received: {folder}")
    if not (folder / artifacts.GOLDEN).is_file():
        raise artifacts.ArtifactError(
            "An artifact is published with golden outputs, by which others see that it works: save it with `golden_inputs`. "
            f"Received: {folder} without {artifacts.GOLDEN}"
        )
    artifacts.check_golden(model, folder)
    return model, metadata["version"], ENTRIES.get(metadata["provenance"].get("model"))


def download(names, folder):
    """Makes a mirror of models in a folder, to work without a network.

    `load` takes models by name from there, where the environment variable `KERAS_INTERP_ZOO` names the folder.

    Args:
        names: names of zoo models, or "hf://user/repo" with or without "@revision".
        folder: where to; each model in a folder of its name, or of its repository's.

    Returns:
        The folders of the models, `pathlib.Path`s.

    Raises:
        KeyError, FileNotFoundError, HubError, ArtifactError: as for `load`. What was complete by then stays.
        ValueError: for two models that would go to the same folder.
    """
    names = [names] if isinstance(names, str) else list(names)
    targets = {}
    for name in names:
        folder_name = Reference.parse(name).repo_id.split("/")[1] if is_reference(name) else get_entry(name).name
        target = pathlib.Path(folder) / folder_name
        if target in targets.values():
            raise ValueError(f"Two models would go to {target}; download one of them to another folder. Received: {names}")
        targets[name] = target
    return [copy_artifact(find_folder(name, artifacts.FILES), target) for name, target in targets.items()]


def models_of(user, pattern="*"):
    """What a user or an organisation has on the Hub that was made with keras-interp, and matches an `fnmatch` pattern.

    Returns:
        A list of `huggingface_hub.ModelInfo`, sorted by name.

    Raises:
        HubError: where the Hub does not answer.
    """
    models = _ask(user, lambda: list(_api().list_models(author=user, filter=cards.TAG, full=True, cardData=True)))
    return sorted((one for one in models if fnmatch.fnmatch(one.id.split("/")[1], pattern)), key=lambda one: one.id)


def _ask(subject, function, *arguments, retry=True, **options):
    """Calls a function of the Hub's client: again after a while where the Hub is overloaded, and with errors that help.

    Raises:
        HubError: in the place of what the client raises.
    """
    for wait in (*(WAITS if retry else ()), None):
        try:
            return function(*arguments, **options)
        except (errors.HTTPError, OSError, RuntimeError) as error:
            reason = _reason(error)
            if not isinstance(reason, (errors.HTTPError, OSError)):
                raise
            if wait is None or not _is_overloaded(reason):
                raise _helpful(subject, reason) from reason
        time.sleep(wait)


def _reason(error):
    """Why the client raised an error: it hides what made it fall back to its cache, or stop an upload."""
    hides = isinstance(error, (errors.LocalEntryNotFoundError, RuntimeError))
    return error.__cause__ if hides and error.__cause__ is not None else error


def _is_overloaded(error):
    return isinstance(error, errors.HfHubHTTPError) and error.response.status_code >= 500


def _is_away(error):
    """Whether the Hub could not be asked."""
    away = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    no_answer = isinstance(error, errors.HTTPError) and not isinstance(error, errors.HfHubHTTPError)
    return isinstance(error, away) or no_answer or _is_overloaded(error)


def _helpful(subject, error):
    """The `HubError` for an error of the Hub's client: what helps, and what it said."""
    words = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError):
        advice = "Access must be asked for on the repository's page; then log in with `hf auth login`."
    elif isinstance(error, errors.RepositoryNotFoundError):
        advice = (
            "The Hub knows no such repository, or it is private and you may not see it: check the name, and log in with "
            "`hf auth login` or set HF_TOKEN."
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        advice = "The repository has no such branch, tag or commit."
    elif isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        advice = "HF_HUB_OFFLINE is set, and the cache does not hold this: load it once with a network, or give a folder."
    elif status == 401 or isinstance(error, errors.LocalTokenNotFoundError):
        advice = "The Hub does not know your token: log in with `hf auth login`, or set HF_TOKEN."
    elif status == 403:
        advice = "Your token does not allow this: writing needs a token with the right to write to this repository."
    elif status == 404:
        advice = f"There is no such page at {constants.ENDPOINT}: check the name of the repository, and HF_ENDPOINT."
    elif status == 409:
        advice = "Somebody changed the repository meanwhile: look at its page, and try again."
    elif status is not None:
        advice = "The Hub does not answer as it should: try again later."
    elif isinstance(error, errors.HTTPError):
        advice = (
            f"The Hub at {constants.ENDPOINT} cannot be reached, or went away: check the network, HF_ENDPOINT and proxies, or "
            "set HF_HUB_OFFLINE=1 to work from the cache."
        )
    elif getattr(error, "errno", None) == errno.ENOSPC:
        advice = f"The disk is full: make room, or set HF_HOME to another one. The cache is {constants.HF_HUB_CACHE}."
    else:
        advice = "The transfer did not work: try again."
    return HubError(f"{advice} Received: {subject}: {words}")
