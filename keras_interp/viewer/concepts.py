"""Content of the concept viewer for an explanation module, computed on demand."""

import functools
import hashlib
import html
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_interp.checks import check_labels
from keras_interp.explain.concept_notes import CONTEXT, ConceptNotes
from keras_interp.metrics.concepts import Orthogonality, locality, orthogonality
from keras_interp.models.concept_explainer import ConceptExplainer
from keras_interp.typing import ArrayLike
from keras_interp.viewer.html import LEGEND, STUDY_REMARK, card, figure, grid, picture, result, signed, spoken

# Number of images in the view of one x-feature, and of thumbnails to choose from.
SHOWN, THUMBNAILS = 12, 60


def check_model(model: Any) -> Any:
    """Returns the model if it is an explanation module, or raises a TypeError."""
    if not isinstance(model, ConceptExplainer):
        raise TypeError(
            "The viewer shows the x-features of an ExplanationModule or LassoModule; other models have none. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    return model


class Concepts:
    """Content of the page: the x-features of a model on images, with the users' notes on them.

    Args:
        model, images, labels, part_names, notes: as for `build`.

    Attributes:
        targets: names of the explained classes that have images.
        cells: names of the parts, and "context".

    Raises:
        TypeError, ValueError: as for `build`.

    Examples:

    >>> import keras
    >>> from keras import layers
    >>> from keras_interp.models import ExplanationModule
    >>> maps = [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D(name="pooled")]
    >>> classifier = keras.Sequential([keras.Input((8, 8, 3)), *maps, layers.Dense(2)])
    >>> model = ExplanationModule(classifier, "pooled", class_names=("wren", "jay"), num_features=2, hidden_units=(4,))
    >>> concepts = Concepts(model, np.full((3, 8, 8, 3), 99, "uint8"), np.array([0, 1, 1]), ("beak", "tail"))
    >>> concepts.name("jay", 1, "blue wing")
    >>> concepts.names("jay"), concepts.cells
    (('x-feature 0', 'blue wing'), ('beak', 'tail', 'context'))
    """

    def __init__(
        self,
        model: Any,
        images: np.ndarray,
        labels: ArrayLike | None = None,
        part_names: Sequence[str] = (),
        notes: ConceptNotes | None = None,
    ) -> None:
        self.images = check_model(model).check_inputs(images)
        if self.images.ndim != 4:
            raise ValueError(f"The viewer shows images. Received: a model of rows, shape={self.images.shape}")
        self.model, self.notes = model, notes or ConceptNotes()
        self._lock = threading.RLock()
        classes = model.predict(self.images, verbose=0).argmax(axis=1) if labels is None else labels
        self.labels = check_labels(classes, model.num_classes, model.class_names)
        if len(self.labels) != len(self.images):
            raise ValueError(f"There must be one label for each of {len(self.images)} images. Received: {len(self.labels)}")
        self.targets = tuple(target for target in model.targets if len(self.of_class(target)))
        if not self.targets:
            raise ValueError(f"There must be an image of an explained class, {model.targets}. Received: none of them")
        self.cells = (*part_names, CONTEXT) if part_names else ()
        self.notes.apply(model)
        # Cached, since a heatmap takes a pass through the whole network and back.
        self._explained = functools.lru_cache(24)(self._explain)
        self._heat = functools.lru_cache(64)(self._heatmaps)
        self._decision = functools.lru_cache(64)(self._logits)
        self._contributions = functools.lru_cache(None)(self._class_contributions)

    # --- Computing.

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that have images."""
        return tuple(self.model.class_names[number] for number in np.unique(self.labels))

    @property
    def num_features(self) -> int:
        """Number of x-features of a target."""
        return self.model.num_features

    def of_class(self, label: str) -> np.ndarray:
        """Indices of the images of a class."""
        return np.flatnonzero(self.labels == self.model.class_names.index(label))

    def names(self, target: str) -> tuple[str, ...]:
        """Names of a target's x-features, "x-feature 3" if unnamed."""
        return self.model.feature_names(target)

    def given_name(self, target: str, feature: int) -> str:
        """The name of an x-feature, "" if unnamed."""
        return dict(enumerate(self.model.concept_names.get(target, ()))).get(feature, "")

    def _explain(self, target, numbers):
        with self._lock:
            return self.model.explain(self.images[list(numbers)], target)

    def _heatmaps(self, target, number):
        with self._lock:
            return self.model.heatmaps(self.images[[number]], target)[0]

    def _logits(self, number):
        """The network's own logits (classes,) for an image."""
        with self._lock:
            return self.model.predict(self.images[[number]], verbose=0)[0]

    def _class_contributions(self, target):
        module = self.model.targets.index(target)
        with self._lock:
            features = self.model.x_features(self.images[self.of_class(target)])[:, module]
        return features * self.model.predictor()[0][module]

    def main_feature(self, target: str) -> int:
        """Number of the x-feature that contributes most to its class."""
        return int(self._contributions(target).mean(axis=0).argmax())

    def strongest(self, target: str, feature: int, count: int = SHOWN) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the images of the target's class with the largest v_i E_i, and these contributions."""
        numbers = self.of_class(target)
        contributions = self._contributions(target)[:, feature]
        order = np.argsort(-contributions, kind="stable")[:count]
        return numbers[order], contributions[order]

    def sentence(self, number: int, target: str) -> str:
        """Explanation of a target for an image, in words: "Classified as jay because of blue wing (+22.7) ..."."""
        contributions = self._explained(target, (int(number),)).contributions[0]
        predicted = self.model.class_names[int(self._decision(number).argmax())]
        return sentence(target, predicted, self.names(target), contributions)

    def question(self, target: str, position: int) -> tuple[int, int] | None:
        """The study's question at a position: image index and x-feature, image by image; None past the last."""
        numbers = self.of_class(target)
        image, feature = divmod(position, self.num_features)
        return (int(numbers[image]), feature) if 0 <= image < len(numbers) else None

    def image_key(self, number: int) -> str:
        """The key of an image in the notes, which depends only on its pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.images[number], "uint8").tobytes()).hexdigest()[:16]

    def answered(self, target: str, number: int, feature: int, person: str) -> list[str] | None:
        """The parts that a person ticked for a heatmap, or None."""
        answers = self.notes.answers(target, feature, person)
        return next((answer["parts"] for answer in answers if answer["image"] == self.image_key(number)), None)

    def next_question(self, target: str, position: int, person: str) -> int:
        """The first position from this one on without an answer of the person, and with heat; else the end."""
        position = min(position, len(self.of_class(target)) * self.num_features)
        while (asked := self.question(target, position)) is not None:
            number, feature = asked
            if self.answered(target, number, feature, person) is None and self._heat(target, number)[feature].any():
                break
            position += 1
        return position

    def study(self, target: str) -> tuple[np.ndarray, Orthogonality, np.ndarray]:
        """O1 and O2, and the locality of each x-feature, from all answers on a target so far.

        Returns:
            counts, an int64 array (features, cells), an `metrics.concepts.Orthogonality` and a float64 array (features,).
        """
        counts = self.notes.counts(target, self.num_features, self.cells)
        return counts, orthogonality(counts[None, :, None]), locality(counts[None])

    # --- Changing.

    def name(self, target: str, feature: int, name: str) -> None:
        """Names an x-feature, in the notes and the model."""
        if target not in self.model.targets or not 0 <= int(feature) < self.num_features:
            raise ValueError(
                f"There are {self.num_features} x-features for each of {self.model.targets}. Received: {target!r}, {feature}"
            )
        with self._lock:
            self.notes.name(target, feature, name)
            self.notes.apply(self.model)

    # --- Drawing.

    def _contribution(self, number, value, contributed, title=""):
        """A card of an image with an x-feature's contribution, its value and heatmap (h, w)."""
        text = f"{signed(value)} to the logit" if value else "not active here"
        if value and not np.ptp(contributed):
            text += ", from no place of its own"
        sign = "for" if value > 0 else "against" if value < 0 else "inactive"
        return card(picture(self.images[number], np.abs(contributed), against=value < 0), title, text, sign)

    def draw_image(self, number: int, target: str) -> str:
        """The first view, as HTML: an image, and all x-features of a target on it, the largest contribution first."""
        explanation = self._explained(target, (int(number),))
        contributions, names = explanation.contributions[0], self.names(target)
        order = explanation.top_units(self.num_features)[0]
        image = card(picture(self.images[number]), spoken(self.model.class_names[self.labels[number]]), "the image")
        cards = [self._contribution(number, contributions[f], explanation.maps[0, ..., f], names[f]) for f in order]
        place = self.model.class_names.index(target)
        rebuilt, own = float(explanation.logits[0, place]), float(self._decision(number)[place])
        sums = f"{contributions.sum():.1f} {signed(explanation.bias[0], ' ')} (bias)"
        return (
            f'<p class="sentence">{html.escape(self.sentence(number, target))}</p>'
            f'<p class="remark">The x-features rebuild the logit of {html.escape(spoken(target))} as {sums} = {rebuilt:.1f}; '
            f"the network's own is {own:.1f}.</p>{LEGEND}{grid([image, *cards])}"
        )

    def draw_feature(self, target: str, feature: int) -> str:
        """The second view, as HTML: one x-feature of a target on the images of its class to which it contributes most."""
        numbers, contributions = self.strongest(target, feature)
        maps = self._explained(target, tuple(map(int, numbers))).maps
        name, label = html.escape(self.names(target)[feature]), html.escape(spoken(target))
        cards = [self._contribution(*drawn) for drawn in zip(numbers, contributions, maps[..., feature])]
        remark = f"The {len(cards)} of {len(self.of_class(target))} images of {label} on which {name} contributes most."
        if not contributions.any():
            remark = f"{name} contributes to none of the {len(self.of_class(target))} images of {label}."
        return f'<p class="remark">{remark}</p>{LEGEND}{grid(cards)}'

    def draw_votes(self, target: str, feature: int) -> str:
        """The votes on an x-feature, as HTML."""
        yes, no = self.notes.votes(target, feature)
        return f'<p class="votes">Votes so far: <b>{yes}</b> trust it, <b>{no}</b> do not.</p>'

    def draw_question(self, target: str, position: int) -> str:
        """The question of the study, as HTML: an image, and the same with a heatmap."""
        asked = self.question(target, position)
        if asked is None:
            return '<p class="sentence">No heatmap is left for this class. Choose another, or go back to change an answer.</p>'
        number, feature = asked
        heat = self._heat(target, number)[feature]
        count = len(self.of_class(target)) * self.num_features
        cards = [
            card(picture(self.images[number]), spoken(target), "the image"),
            card(picture(self.images[number], heat), f"x-feature {feature}", "the heatmap: the redder, the more it counts"),
        ]
        return f'<p class="remark">Heatmap {position + 1} of {count} of this class.</p>{grid(cards, wide=True)}'

    def draw_study(self, target: str) -> str:
        """The results of the study so far, as HTML."""
        counts, apart, places = self.study(target)
        heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in (*self.cells, "locality"))
        rows = []
        for feature, (row, place) in enumerate(zip(counts, places)):
            # Darker for larger counts, relative to the row's largest.
            shades = [f'<td style="background:rgba(198,40,40,{0.6 * n / max(row.max(), 1):.2f})">{n or ""}</td>' for n in row]
            rows.append(f"<tr><th>x-feature {feature}</th>{''.join(shades)}<td>{figure(place)}</td></tr>")
        done = [other for other in self.targets if self.notes.counts(other, self.num_features, self.cells).any()]
        lines = [result(f"{spoken(target)}", [(apart, places)])]
        if len(done) > 1:
            lines.append(result(f"Mean of {len(done)} classes", [self.study(other)[1:] for other in done]))
        answers = sum(len(self.notes.answers(target, feature)) for feature in range(self.num_features))
        return (
            f'<p class="remark">Answers on {html.escape(spoken(target))} so far, of all persons: {answers}. The table says '
            f'how often each x-feature was found on each part.</p>{"".join(lines)}<div class="scroll">'
            f'<table class="study"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>{STUDY_REMARK}'
        )


def sentence(target: str, predicted: str, names: Sequence[str], contributions: np.ndarray) -> str:
    """Explanation in words of why an image was put into a class, or not.

    Args:
        target: name of the explained class.
        predicted: name of the predicted class.
        names: names of the x-features.
        contributions: v_i E_i of each (features,). Those that round to 0.0 are omitted.

    Returns:
        A string.

    Examples:

    >>> sentence("Blue_Jay", "Blue_Jay", ("crest", "x-feature 1", "wing"), np.array([14.5, -1.25, 22.71]))
    'Classified as Blue Jay because of wing (+22.7), crest (+14.5), in spite of x-feature 1 (−1.2).'
    >>> sentence("Blue_Jay", "Crow", ("crest", "wing"), np.array([0.5, 0.0]))
    'Classified as Crow. What speaks for Blue Jay: crest (+0.5).'
    """
    order = np.argsort(-np.asarray(contributions), kind="stable")
    parts = [(f"{names[number]} ({signed(float(contributions[number]))})", contributions[number]) for number in order]
    reasons = ", ".join(text for text, value in parts if value >= 0.05)
    objections = ", ".join(text for text, value in parts[::-1] if value <= -0.05)
    result = f"Classified as {spoken(predicted)}"
    if predicted == target:
        result += f" because of {reasons}" if reasons else ", though no x-feature speaks for it"
        return result + (f", in spite of {objections}." if objections else ".")
    result += f". What speaks for {spoken(target)}: {reasons or 'nothing'}"
    return result + (f"; against it: {objections}." if objections else ".")
