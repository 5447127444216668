"""User notes on x-features: names, votes and study answers, in one file that travels with the model."""

import json
import os
import pathlib
import re
import tempfile
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_interp.typing import PathLike

FILE_NAME = "concepts.json"
FORMAT = 1

# The last cell of the study: everything outside the object.
CONTEXT = "context"


class ConceptNotes:
    """Names of x-features, votes whether to trust them, and answers of the study (Table 1b of the paper).

    They are stored by the target's name and the index of the x-feature, so they do not apply to a retrained module. Every
    change is written at once and atomically, merged with the file's current content; one object may serve several threads.

    Args:
        path: file to store them in, which is read if it exists; a folder stands for its `concepts.json`. None keeps them in
            memory.

    Raises:
        ValueError: for a file that is damaged, not a notes file, or of a newer format.

    Examples:

    >>> notes = ConceptNotes()
    >>> notes.name("jay", 1, "blue wing")
    >>> notes.vote("jay", 1, trust=True)
    >>> notes.answer("jay", 1, image="c0ffee", parts=["wing", "context"], person="A")
    >>> notes.names("jay"), notes.votes("jay", 1), notes.counts("jay", 2, ["tail", "wing", "context"]).tolist()
    ({1: 'blue wing'}, (1, 0), [[0, 0, 0], [0, 1, 1]])
    """

    def __init__(self, path: PathLike | None = None) -> None:
        path = None if path is None else pathlib.Path(path)
        self.path = path / FILE_NAME if path is not None and path.is_dir() else path
        self._lock = threading.RLock()
        self._targets = {} if self.path is None or not self.path.exists() else _read(self.path)

    @property
    def writable(self) -> bool:
        """True if the file can be written, or created with its folders; always for notes in memory."""
        if self.path is None:
            return True
        return os.access(next(folder for folder in self.path.absolute().parents if folder.exists()), os.W_OK)

    def _of(self, target, feature):
        return self._targets.get(str(target), {}).get(str(int(feature)), {})

    def _change(self, target, feature, change):
        """Applies a change to an x-feature's notes, first to the file, then in memory."""
        with self._lock:
            # Reread: another viewer may have written to the file.
            saved = self.path is not None and self.path.exists()
            targets = _read(self.path) if saved else json.loads(json.dumps(self._targets))
            change(targets.setdefault(str(target), {}).setdefault(str(int(feature)), {}))
            if self.path is not None:
                _write(self.path, targets)
            self._targets = targets

    def name(self, target: str, feature: int, name: str) -> None:
        """Names an x-feature of a target, by its index; an empty name removes the name."""
        name = " ".join(name.split())
        self._change(target, feature, lambda of: of.update(name=name))

    def names(self, target: str) -> dict[int, str]:
        """Names given to x-features of a target, {index: name}, "" if a name was removed."""
        return {int(feature): of["name"] for feature, of in self._targets.get(str(target), {}).items() if "name" in of}

    def apply(self, model: Any) -> None:
        """Gives the names to the x-features of an explanation module, replacing its own.

        Raises:
            ValueError: for x-features that the model does not have.
        """
        names = dict(model.concept_names)
        for target in self._targets:
            if target not in model.targets or max(map(int, self._targets[target]), default=0) >= model.num_features:
                raise ValueError(
                    f"The notes must be of the model's x-features, {model.num_features} for each of {model.targets}. "
                    f"Received: {self.path} with {target!r}: {sorted(self._targets[target])}"
                )
            own = dict(enumerate(names.get(target, ()))) | self.names(target)
            names[target] = [own.get(feature, "") for feature in range(model.num_features)]
        model.concept_names = names

    def vote(self, target: str, feature: int, trust: bool) -> None:
        """Adds a vote for or against trusting an x-feature."""

        def add(of):
            votes = of.setdefault("votes", {"yes": 0, "no": 0})
            votes["yes" if trust else "no"] += 1

        self._change(target, feature, add)

    def votes(self, target: str, feature: int) -> tuple[int, int]:
        """Votes for trusting an x-feature, and against it."""
        votes = self._of(target, feature).get("votes", {"yes": 0, "no": 0})
        return votes["yes"], votes["no"]

    def answer(self, target: str, feature: int, image: str, parts: Iterable[str], person: str = "") -> None:
        """Records the parts that the heatmap of an x-feature covers in an image, replacing this person's last answer.

        Args:
            target: name of the target.
            feature: index of the x-feature.
            image: key of the image, any string.
            parts: names of the parts, or "context"; at least one.
            person: name of the person.

        Raises:
            ValueError: for no parts.
        """
        if not parts:
            raise ValueError(f"An answer must name at least one part. Received: {parts!r}")
        new = {"person": person, "image": image, "parts": sorted(set(parts))}

        def put(of):
            others = [a for a in of.get("answers", ()) if (a["person"], a["image"]) != (person, image)]
            of["answers"] = [*others, new]

        self._change(target, feature, put)

    def answers(self, target: str, feature: int, person: str | None = None) -> list[dict[str, Any]]:
        """Answers on an x-feature, of one person or of all: dicts of `person`, `image` and `parts`."""
        return [dict(a) for a in self._of(target, feature).get("answers", ()) if person in (None, a["person"])]

    def counts(self, target: str, num_features: int, cells: Sequence[str]) -> np.ndarray:
        """Number of times that people found each x-feature of a target on each part.

        Args:
            target: name of the target.
            num_features: number of its x-features.
            cells: names of the parts to count, and "context" if included.

        Returns:
            int64 array (features, cells), as `metrics.concepts.locality` and `metrics.concepts.orthogonality` take it.
        """
        answers = [self.answers(target, feature) for feature in range(num_features)]
        return np.array([[sum(cell in answer["parts"] for answer in of) for cell in cells] for of in answers], "int64")


def _write(path, targets):
    """Writes the file atomically: a temporary file first, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump({"concept_notes": FORMAT, "targets": targets}, file, indent=1, ensure_ascii=False, sort_keys=True)
            file.write("\n")
        # A temporary file is private to its owner; notes must be as readable as their folder.
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        pathlib.Path(scratch).unlink(missing_ok=True)
        raise


def _read(path):
    """Reads notes from a file, by target and index of the x-feature, or raises."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The file of names and votes is not JSON. Received: {path}: {error}") from error
    found = content.get("concept_notes") if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise ValueError(f"This keras-interp reads notes up to format {FORMAT}. Received: {path} of format {found}")
    targets = content.get("targets") if found == FORMAT else None
    if not isinstance(targets, dict):
        raise ValueError(f"The file must hold names and votes of x-features. Received: {path}, with other content")
    for target, features in targets.items():
        if not isinstance(features, dict) or not all(map(_is_valid, features, features.values())):
            raise ValueError(f"The file of names and votes is damaged. Received: {path} at the target {target!r}")
    return targets


def _is_valid(number, of):
    """True for valid notes on an x-feature."""
    if not re.fullmatch("0|[1-9][0-9]{0,5}", number) or not isinstance(of, dict):
        return False
    if not set(of) <= {"name", "votes", "answers"} or not isinstance(of.get("name", ""), str):
        return False
    votes, answers = of.get("votes", {"yes": 0, "no": 0}), of.get("answers", [])
    if not isinstance(votes, dict) or set(votes) != {"yes", "no"} or not isinstance(answers, list):
        return False
    if not all(type(count) is int and count >= 0 for count in votes.values()):
        return False
    return all(
        isinstance(answer, dict)
        and set(answer) == {"person", "image", "parts"}
        and isinstance(answer["person"], str)
        and isinstance(answer["image"], str)
        and isinstance(answer["parts"], list)
        and answer["parts"]
        and all(isinstance(part, str) for part in answer["parts"])
        for answer in answers
    )
