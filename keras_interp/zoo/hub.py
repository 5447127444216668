"""The zoo on the Hugging Face Hub: fetch models, with checks, and publish them."""

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

# Seconds to wait before retrying an overloaded Hub.
WAITS = (1, 2, 4)


# Timeout of a request, in seconds.
TIMEOUT = 10


# Files that `load` takes from a repository.
NEEDED = (*artifacts.REQUIRED, artifacts.CONCEPTS)


class HubError(OSError):
    """The Hub or the connection failed; the message suggests a fix."""


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
        """Parses "hf://user/repo" or "hf://user/repo@revision" to a `Reference`.

        Raises:
            ValueError: for any other text.
        """
        found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text)
        if not found:
            raise ValueError(f"A model on the Hub is named hf://user/repo or hf://user/repo@revision. Received: {text!r}")
        return cls(*found.groups())

    @property
    def is_pinned(self) -> bool:
        """True if it names a commit, which never changes."""
        return re.fullmatch("[0-9a-f]{40}", self.revision or "") is not None

    def __str__(self):
        return f"hf://{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


def is_reference(name: Any) -> TypeGuard[str]:
    """True for the name of a model on the Hub."""
    return isinstance(name, str) and name.startswith("hf://")


def api() -> huggingface_hub.HfApi:
    from keras_interp import __version__

    return huggingface_hub.HfApi(library_name="keras-interp", library_version=__version__)


def fetch(reference: Reference, pins: Mapping[str, str] | None = None, files: Sequence[str] = NEEDED) -> pathlib.Path:
    """Downloads missing files into the Hugging Face cache.

    Args:
        reference: a `Reference`. For a branch or a tag, all files are taken from its current commit; if the Hub cannot be
            reached, from the cached one, with a warning.
        pins: {file name: sha256} that the files must also match, or None.
        files: files to take if the repository has them; defaults to those that `load` needs.

    Returns:
        The folder in the cache, which other programs share: do not write to it.

    Raises:
        HubError: if the Hub does not provide them; the message suggests a fix.
        ArtifactError: for files that differ from the Hub's or the pinned checksums. They are removed from the cache.
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
        warnings.warn(f"Using the cached copy of {reference}, which may be outdated: {unanswered}", stacklevel=2)
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
            # Otherwise every later call would find it. Another process may remove it, too.
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise artifacts.ArtifactError(
                f"The file from the Hub is not {problem}. It was removed from the cache: try again, and if it "
                f"happens again, do not trust this source. Received: {reference} {name}"
            )
    return pathlib.Path(folder)


def _unanswered(reference):
    """The `HubError` if the Hub cannot be asked about a branch or a tag, else None.

    The client itself would silently take an old commit from its cache, and wait forever for an unresponsive Hub.
    """
    try:
        ask(reference, api().model_info, reference.repo_id, revision=reference.revision, timeout=TIMEOUT)
    except HubError as error:
        if _is_away(error.__cause__):
            return error
        raise
    return None


def _problem(path, pin):
    """Description of the expected file that a cached file fails to match, or None."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "whole any more"
    sha256 = hashlib.sha256(content).hexdigest()
    if pin and sha256 != pin:
        return f"those that keras-interp pins (sha256 {pin[:12]}...)"
    # The cache names files by the Hub's checksums: sha256 for large files, git's hash for others.
    announced = path.resolve().name
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", announced) and announced not in (sha256, git):
        return f"those that it announces ({announced[:12]}...)"
    return None


def models_of(user: str, pattern: str = "*") -> list[huggingface_hub.ModelInfo]:
    """Lists a user's or organization's keras-interp models on the Hub that match an `fnmatch` pattern.

    Returns:
        A list of `huggingface_hub.ModelInfo`, sorted by name.

    Raises:
        HubError: if the Hub does not respond.
    """
    models = ask(user, lambda: list(api().list_models(author=user, filter=cards.TAG, full=True, cardData=True)))
    return sorted((one for one in models if fnmatch.fnmatch(one.id.split("/")[1], pattern)), key=lambda one: one.id)


def ask(subject: Any, function: Callable, *arguments: Any, retry: bool = True, **options: Any) -> Any:
    """Calls a function of the Hub's client, with retries if the Hub is overloaded and with helpful errors.

    Raises:
        HubError: in place of the client's errors.
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
    """Underlying cause of a client error, which hides why it fell back to its cache or stopped an upload."""
    hides = isinstance(error, (errors.LocalEntryNotFoundError, RuntimeError))
    return error.__cause__ if hides and error.__cause__ is not None else error


def _is_overloaded(error):
    return isinstance(error, errors.HfHubHTTPError) and error.response.status_code >= 500


def _is_away(error):
    """True if the Hub could not be reached."""
    away = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    no_answer = isinstance(error, HTTPError) and not isinstance(error, errors.HfHubHTTPError)
    return isinstance(error, away) or no_answer or _is_overloaded(error)


def _helpful(subject, error):
    """The `HubError` for an error of the Hub's client: a suggested fix, and its message."""
    words = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError):
        advice = "Request access on the repository's page, then log in with `hf auth login`."
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
        advice = "The repository changed in the meantime: look at its page, and try again."
    elif status is not None:
        advice = "The Hub gave an unexpected response: try again later."
    elif isinstance(error, HTTPError):
        advice = (
            f"The Hub at {constants.ENDPOINT} cannot be reached or has disconnected: check network, HF_ENDPOINT and proxies, "
            "or set HF_HUB_OFFLINE=1 to work from the cache."
        )
    elif getattr(error, "errno", None) == errno.ENOSPC:
        advice = f"The disk is full: free some space, or set HF_HOME to another disk. The cache is {constants.HF_HUB_CACHE}."
    else:
        advice = "The transfer failed: try again."
    return HubError(f"{advice} Received: {subject}: {words}")
