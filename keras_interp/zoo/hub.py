"""The zoo on the Hugging Face Hub: fetch models from there, checked, and publish them."""

from __future__ import annotations

import dataclasses
import errno
import fnmatch
import hashlib
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

from keras_interp.zoo import artifacts, cards

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

    Examples:

    >>> Reference.parse("hf://ada/jays@v1")
    Reference(repo_id='ada/jays', revision='v1')
    >>> str(Reference("ada/jays"))
    'hf://ada/jays'
    """

    repo_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The `Reference` that "hf://user/repo" or "hf://user/repo@revision" names.

        Raises:
            ValueError: for any other text.
        """
        found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text)
        if not found:
            raise ValueError(f"A model on the Hub is named hf://user/repo or hf://user/repo@revision. Received: {text!r}")
        return cls(*found.groups())

    @property
    def is_pinned(self) -> bool:
        """Whether it names a commit, which alone never changes."""
        return re.fullmatch("[0-9a-f]{40}", self.revision or "") is not None

    def __str__(self):
        return f"hf://{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


def is_reference(name: Any) -> TypeGuard[str]:
    """Whether a name is meant as a model on the Hub."""
    return isinstance(name, str) and name.startswith("hf://")


def api() -> huggingface_hub.HfApi:
    from keras_interp import __version__

    return huggingface_hub.HfApi(library_name="keras-interp", library_version=__version__)


def fetch(reference: Reference, pins: Mapping[str, str] | None = None, files: Sequence[str] = NEEDED) -> pathlib.Path:
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
        folder = ask(
            reference,
            api().snapshot_download,
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
        ask(reference, api().model_info, reference.repo_id, revision=reference.revision, timeout=TIMEOUT)
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


def models_of(user: str, pattern: str = "*") -> list[huggingface_hub.ModelInfo]:
    """What a user or an organization has on the Hub that was made with keras-interp, and matches an `fnmatch` pattern.

    Returns:
        A list of `huggingface_hub.ModelInfo`, sorted by name.

    Raises:
        HubError: where the Hub does not answer.
    """
    models = ask(user, lambda: list(api().list_models(author=user, filter=cards.TAG, full=True, cardData=True)))
    return sorted((one for one in models if fnmatch.fnmatch(one.id.split("/")[1], pattern)), key=lambda one: one.id)


def ask(subject: Any, function: Callable, *arguments: Any, retry: bool = True, **options: Any) -> Any:
    """Calls a function of the Hub's client: again after a while where the Hub is overloaded, and with errors that help.

    Raises:
        HubError: in the place of what the client raises.
    """
    for wait in (*(WAITS if retry else ()), None):
        try:
            return function(*arguments, **options)
        except (HTTPError, OSError, RuntimeError) as error:
            reason = _reason(error)
            if not isinstance(reason, (HTTPError, OSError)):
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
    no_answer = isinstance(error, HTTPError) and not isinstance(error, errors.HfHubHTTPError)
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
    elif isinstance(error, HTTPError):
        advice = (
            f"The Hub at {constants.ENDPOINT} cannot be reached, or went away: check the network, HF_ENDPOINT and proxies, or "
            "set HF_HUB_OFFLINE=1 to work from the cache."
        )
    elif getattr(error, "errno", None) == errno.ENOSPC:
        advice = f"The disk is full: make room, or set HF_HOME to another one. The cache is {constants.HF_HUB_CACHE}."
    else:
        advice = "The transfer did not work: try again."
    return HubError(f"{advice} Received: {subject}: {words}")
