"""Publishes models on the Hub after checking everything that goes there."""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Mapping

import huggingface_hub
import keras
import numpy as np
from huggingface_hub import constants

from keras_interp.models.base import InterpretableModel
from keras_interp.zoo import artifacts, cards
from keras_interp.zoo.entry import Entry
from keras_interp.zoo.hub import HubError, Reference, api, ask
from keras_interp.zoo.registry import ENTRIES
from keras_interp.zoo.store import copy_artifact, find_folder, load_folder


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        reference: `Reference` with the commit, to load exactly this.
        url: page of the commit, or of the pull request.
        tag: the tag that the commit got, or None.
        sha256: {file name: sha256} of the uploaded files.
    """

    reference: Reference
    url: str
    tag: str | None
    sha256: Mapping


def publish(
    model: str | pathlib.Path | keras.Model,
    repo_id: str,
    private: bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    license: str | None = None,
) -> Published:
    """Publishes a model on the Hub after checking everything that goes there.

    Only the files of an artifact are uploaded, whatever else the folder holds. The card is rewritten, see `cards.write_card`;
    hand-written sections, in the folder or on the Hub, are kept.

    Args:
        model: a folder that `save` or `train` wrote, the name of a zoo model, or a model of keras-interp.
        repo_id: "user/repo"; created if it does not exist.
        private: whether a new repository is private; defaults to the Hub's setting.
        create_pr: whether to open a pull request instead of a commit; it gets no tag.
        revision: branch to commit to, created if it does not exist; defaults to the main branch.
        tag: tag of the commit; defaults to "v" and the version of keras-interp that saved it, unless that tag is taken.
        license: the Hub's name of the weights' license, as "mit"; required for models from outside the zoo.

    Returns:
        A `Published`; load or pin its `reference`.

    Raises:
        ArtifactError: for an artifact that is incomplete, or does not reproduce its golden outputs.
        ValueError: for a model without a license, or a tag that is taken.
        HubError: if the Hub refuses; the message suggests a fix.
    """
    client, reference = api(), Reference.parse(f"hf://{repo_id}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = _collect(model, pathlib.Path(scratch) / "artifact")
        loaded, version, entry = check(folder)
        if isinstance(model, str | pathlib.Path):
            _draw_explanation(loaded, entry, folder)
        existing, tags = _look_up(client, repo_id, revision, private)
        if tag in tags:
            raise ValueError(f"The repository has a tag of that name; give another one. Received: tag={tag!r}")
        card = cards.write_card(folder, repo_id, license, existing, loaded)
        ask(reference, huggingface_hub.ModelCard.load(card).validate)
        sums = {path.name: artifacts.sha256(path) for path in sorted(folder.iterdir())}
        ask(reference, client.create_repo, repo_id, private=private, exist_ok=True)
        if revision:
            ask(reference, client.create_branch, repo_id, branch=revision, exist_ok=True)
        commit = ask(
            reference,
            client.upload_folder,
            repo_id=repo_id,
            folder_path=folder,
            commit_message=f"Saved with keras-interp {version}",
            revision=revision,
            create_pr=create_pr,
            # An existing picture or names belong to other weights.
            delete_patterns=list(artifacts.FILES),
            # No retry: an unconfirmed pull request would be opened twice.
            retry=not create_pr,
        )
    published = Reference(repo_id, commit.oid)
    if create_pr:
        tag = None
    elif tag is None and f"v{version}" not in tags:
        tag = f"v{version}"
    if tag:
        try:
            ask(reference, client.create_tag, repo_id, tag=tag, revision=commit.oid, exist_ok=True)
        except HubError as error:
            raise HubError(f"The model is published as {published}, only the tag {tag!r} is missing. {error}") from error
    return Published(published, commit.pr_url or commit.commit_url, tag, sums)


def _look_up(api, repo_id, revision, private):
    """Text of the card in a repository, or None, and its tags.

    Raises:
        ValueError: for a public repository with `private=True`.
    """
    if not ask(repo_id, api.repo_exists, repo_id):
        return None, set()
    if private and not ask(repo_id, api.model_info, repo_id).private:
        raise ValueError(f"The repository is public already; make it private on its page. Received: {repo_id!r}, private=True")
    refs = ask(repo_id, api.list_repo_refs, repo_id)
    place = {"filename": artifacts.CARD, "revision": revision if revision in {one.name for one in refs.branches} else None}
    text = None
    if ask(repo_id, api.file_exists, repo_id, **place):
        text = pathlib.Path(ask(repo_id, api.hf_hub_download, repo_id, **place, cache_dir=constants.HF_HUB_CACHE)).read_text()
    return text, {one.name for one in refs.tags}


def _collect(model, folder):
    """Copies only the files of an artifact to their own folder."""
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
    # The Hub's cache consists of links.
    if not source.resolve().is_relative_to(pathlib.Path(constants.HF_HUB_CACHE).expanduser().resolve()):
        for name in artifacts.FILES:
            if (source / name).is_symlink():
                raise artifacts.ArtifactError(f"Links are not published; replace it with the file. Received: {source / name}")
    return copy_artifact(source, folder)


def _draw_explanation(model, entry, folder):
    """Explains the golden inputs in a picture, if there is none and the inputs may be shown."""
    shown = entry is None or entry.shows_examples
    if shown and isinstance(model, InterpretableModel) and not (folder / artifacts.EXPLANATION).is_file():
        with np.load(folder / artifacts.GOLDEN, allow_pickle=False) as golden:
            model.explain(golden["inputs"][:4]).plot(path=folder / artifacts.EXPLANATION)


def check(folder: pathlib.Path) -> tuple[keras.Model, str, Entry | None]:
    """Checks an artifact before publishing: it loads, with its names, and reproduces its golden outputs.

    Returns:
        The model, the version of keras-interp that saved it, and its `Entry` in the zoo, or None.

    Raises:
        ArtifactError: for an incomplete artifact.
        ValueError: for a `concepts.json` that is damaged or belongs to another model.
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
