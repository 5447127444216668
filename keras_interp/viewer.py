"""The concept viewer: a local web page on which persons look at x-features, name them, vote on them and answer the study.

It is the interactive visualisation of "Embedding Deep Networks into Visual Explanations" (section 2.4, Figure 3) and the page
of its study with persons (Table 1b). The page needs Gradio: pip install 'keras-interp[view]'.
"""

import base64
import functools
import hashlib
import html
import io
import threading

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageFilter

from keras_interp.checks import check_labels
from keras_interp.explain.concept_notes import CONTEXT, ConceptNotes
from keras_interp.metrics import locality, orthogonality
from keras_interp.models.explanation_module import ConceptExplainer

# Images of the view of one x-feature, and thumbnails to choose an image from.
SHOWN, THUMBNAILS = 12, 60
# Pixels of the side of a picture on the page, twice what it is shown at, for fine screens.
SIDE = 448


def require_gradio():
    """Returns the module `gradio`, or raises an ImportError that says how to install it."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError("The viewer needs Gradio. Install it with: pip install 'keras-interp[view]'") from error
    return gradio


def check_model(model):
    """Returns the model where it is an explanation module, or raises a TypeError."""
    if not isinstance(model, ConceptExplainer):
        raise TypeError(
            "The viewer shows the x-features of an ExplanationModule or LassoModule; other models have none. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    return model


def build(model, images, labels=None, part_names=(), notes=None):
    """Builds the page, see `Concepts` for what it shows.

    Args:
        model: an `ExplanationModule` or `LassoModule` of images.
        images: uint8 array (n, height, width, channels) of raw pixels.
        labels: class numbers (n,); by default the decisions of the model.
        part_names: names of the parts of an object that the study asks for; without any there is no study.
        notes: `ConceptNotes`, which keep what persons say; by default in memory alone.

    Returns:
        A `gradio.Blocks`, for `serve`.

    Raises:
        ImportError: without Gradio.
        TypeError: for another model, or labels that are not integers.
        ValueError: for images of another shape, NaN, labels out of range, none of a target's class, or notes of another model.

    Example, for a model and data of one's own:

        app = viewer.build(module, images, labels, notes=ConceptNotes("concepts.json"))
        viewer.serve(app)
    """
    gradio = require_gradio()
    return _Page(gradio, Concepts(model, images, labels, part_names, notes)).app


def serve(app, host="127.0.0.1", port=None, browser=True, block=True):
    """Serves the page until it is interrupted.

    Args:
        app: what `build` returned.
        host: address to listen on. Who can reach it can look at the images and change names, votes and answers.
        port: port; by default the first free one from 7860.
        browser: whether to open the page in the browser.
        block: whether to wait; else the server goes on in a thread until `app.close()`.

    Returns:
        The page's address.

    Raises:
        OSError: when the port is taken.
    """
    gradio = require_gradio()
    fonts = ["system-ui", "sans-serif"]
    _, address, _ = app.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        share=False,
        quiet=True,
        show_error=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        footer_links=[],
        # The theme's own fonts would come from a server outside.
        theme=gradio.themes.Soft(text_size="lg", primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=["monospace"]),
        css=_CSS,
    )
    if block:
        print(f"The concept viewer is at {address} (stop it with Ctrl+C)", flush=True)
        app.block_thread()
    return address


class Concepts:
    """What the page shows: the x-features of a model on images, with what persons noted of them.

    Args:
        model, images, labels, part_names, notes: as for `build`.

    Attributes:
        targets: names of the explained classes that have images.
        cells: names of the parts, and "context".

    Raises:
        TypeError, ValueError: as for `build`.

    Example:

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

    def __init__(self, model, images, labels=None, part_names=(), notes=None):
        self.images = check_model(model).check_inputs(images)
        if self.images.ndim != 4:
            raise ValueError(f"The viewer shows images. Received: a model of rows, shape={self.images.shape}")
        self.model, self.notes = model, notes or ConceptNotes()
        self._lock = threading.RLock()
        if labels is None:
            labels = model.predict(self.images, verbose=0).argmax(axis=1)
        self.labels = check_labels(labels, model.num_classes, model.class_names)
        if len(self.labels) != len(self.images):
            raise ValueError(f"There must be one label for each of {len(self.images)} images. Received: {len(self.labels)}")
        self.targets = tuple(target for target in model.targets if len(self.of_class(target)))
        if not self.targets:
            raise ValueError(f"There must be an image of an explained class, {model.targets}. Received: none of them")
        self.cells = (*part_names, CONTEXT) if part_names else ()
        self.notes.apply(model)
        # Kept, since a heatmap takes a pass through the whole network and back.
        self._explained = functools.lru_cache(24)(self._explain)
        self._heat = functools.lru_cache(64)(self._heatmaps)
        self._decision = functools.lru_cache(64)(self._logits)
        self._contributions = functools.lru_cache(None)(self._class_contributions)

    # --- Computing.

    @property
    def classes(self):
        """Names of the classes that have images."""
        return tuple(self.model.class_names[number] for number in np.unique(self.labels))

    @property
    def num_features(self):
        """Number of x-features of a target."""
        return self.model.num_features

    def of_class(self, label):
        """Numbers of the images of a class."""
        return np.flatnonzero(self.labels == self.model.class_names.index(label))

    def names(self, target):
        """Names of a target's x-features, "x-feature 3" where they have none."""
        return self.model.feature_names(target)

    def given_name(self, target, feature):
        """The name of an x-feature, "" where it has none."""
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

    def main_feature(self, target):
        """Number of the x-feature that contributes most to its class."""
        return int(self._contributions(target).mean(axis=0).argmax())

    def strongest(self, target, feature, count=SHOWN):
        """Numbers of the images of the target's class with the largest v_i E_i, and these contributions."""
        numbers = self.of_class(target)
        contributions = self._contributions(target)[:, feature]
        order = np.argsort(-contributions, kind="stable")[:count]
        return numbers[order], contributions[order]

    def sentence(self, number, target):
        """Why an image belongs to a target, in words: "Classified as jay because of blue wing (+22.7) ..."."""
        contributions = self._explained(target, (int(number),)).contributions[0]
        predicted = self.model.class_names[int(self._decision(number).argmax())]
        return sentence(target, predicted, self.names(target), contributions)

    def question(self, target, position):
        """The study's question at a position: image number and x-feature, image by image; None past the last."""
        numbers = self.of_class(target)
        image, feature = divmod(position, self.num_features)
        return (int(numbers[image]), feature) if 0 <= image < len(numbers) else None

    def image_key(self, number):
        """The key of an image in the notes, which depends on nothing but its pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.images[number], "uint8").tobytes()).hexdigest()[:16]

    def answered(self, target, number, feature, person):
        """The parts that a person ticked for a heatmap, or None."""
        answers = self.notes.answers(target, feature, person)
        return next((answer["parts"] for answer in answers if answer["image"] == self.image_key(number)), None)

    def next_question(self, target, position, person):
        """The first position from this one on without an answer of the person, and with heat; else the end."""
        position = min(position, len(self.of_class(target)) * self.num_features)
        while (asked := self.question(target, position)) is not None:
            number, feature = asked
            if self.answered(target, number, feature, person) is None and self._heat(target, number)[feature].any():
                break
            position += 1
        return position

    def study(self, target):
        """O1 and O2, and the locality of each x-feature, from all answers on a target so far.

        Returns:
            counts, an int64 array (features, cells), an `metrics.Orthogonality` and a float64 array (features,).
        """
        counts = self.notes.counts(target, self.num_features, self.cells)
        return counts, orthogonality(counts[None, :, None]), locality(counts[None])

    # --- Changing.

    def name(self, target, feature, name):
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
        """A card of an image with what an x-feature contributes, its value and where (h, w)."""
        text = f"{_signed(value)} to the logit" if value else "not active here"
        if value and not np.ptp(contributed):
            text += ", from no place of its own"
        sign = "for" if value > 0 else "against" if value < 0 else "inactive"
        return _card(_picture(self.images[number], np.abs(contributed), against=value < 0), title, text, sign)

    def draw_image(self, number, target):
        """The first view, as HTML: an image, and all x-features of a target on it, the largest contribution first."""
        explanation = self._explained(target, (int(number),))
        contributions, names = explanation.contributions[0], self.names(target)
        order = explanation.top_units(self.num_features)[0]
        image = _card(_picture(self.images[number]), _spoken(self.model.class_names[self.labels[number]]), "the image")
        cards = [self._contribution(number, contributions[f], explanation.maps[0, ..., f], names[f]) for f in order]
        place = self.model.class_names.index(target)
        rebuilt, own = float(explanation.logits[0, place]), float(self._decision(number)[place])
        sums = f"{contributions.sum():.1f} {_signed(explanation.bias[0], ' ')} (bias)"
        return (
            f'<p class="sentence">{html.escape(self.sentence(number, target))}</p>'
            f'<p class="remark">The x-features rebuild the logit of {html.escape(_spoken(target))} as {sums} = {rebuilt:.1f}; '
            f"the network's own is {own:.1f}.</p>{_LEGEND}{_grid([image, *cards])}"
        )

    def draw_feature(self, target, feature):
        """The second view, as HTML: one x-feature of a target on the images of its class to which it contributes most."""
        numbers, contributions = self.strongest(target, feature)
        maps = self._explained(target, tuple(map(int, numbers))).maps
        name, label = html.escape(self.names(target)[feature]), html.escape(_spoken(target))
        cards = [self._contribution(*drawn) for drawn in zip(numbers, contributions, maps[..., feature])]
        remark = f"The {len(cards)} of {len(self.of_class(target))} images of {label} on which {name} contributes most."
        if not contributions.any():
            remark = f"{name} contributes to none of the {len(self.of_class(target))} images of {label}."
        return f'<p class="remark">{remark}</p>{_LEGEND}{_grid(cards)}'

    def draw_votes(self, target, feature):
        """The votes on an x-feature, as HTML."""
        yes, no = self.notes.votes(target, feature)
        return f'<p class="votes">Votes so far: <b>{yes}</b> trust it, <b>{no}</b> do not.</p>'

    def draw_question(self, target, position):
        """The question of the study, as HTML: an image, and the same with a heatmap."""
        asked = self.question(target, position)
        if asked is None:
            return '<p class="sentence">No heatmap is left for this class. Choose another, or go back to change an answer.</p>'
        number, feature = asked
        heat = self._heat(target, number)[feature]
        count = len(self.of_class(target)) * self.num_features
        cards = [
            _card(_picture(self.images[number]), _spoken(target), "the image"),
            _card(_picture(self.images[number], heat), f"x-feature {feature}", "the heatmap: the redder, the more it counts"),
        ]
        return f'<p class="remark">Heatmap {position + 1} of {count} of this class.</p>{_grid(cards, wide=True)}'

    def draw_study(self, target):
        """The results of the study so far, as HTML."""
        counts, apart, places = self.study(target)
        heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in (*self.cells, "locality"))
        rows = []
        for feature, (row, place) in enumerate(zip(counts, places)):
            # Darker the more often, beside the row's largest.
            shades = [f'<td style="background:rgba(198,40,40,{0.6 * n / max(row.max(), 1):.2f})">{n or ""}</td>' for n in row]
            rows.append(f"<tr><th>x-feature {feature}</th>{''.join(shades)}<td>{_figure(place)}</td></tr>")
        done = [other for other in self.targets if self.notes.counts(other, self.num_features, self.cells).any()]
        lines = [_result(f"{_spoken(target)}", [(apart, places)])]
        if len(done) > 1:
            lines.append(_result(f"Mean of {len(done)} classes", [self.study(other)[1:] for other in done]))
        answers = sum(len(self.notes.answers(target, feature)) for feature in range(self.num_features))
        return (
            f'<p class="remark">Answers on {html.escape(_spoken(target))} so far, of all persons: {answers}. The table says '
            f'how often each x-feature was found on each part.</p>{"".join(lines)}<div class="scroll">'
            f'<table class="study"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>{_STUDY_REMARK}'
        )


def sentence(target, predicted, names, contributions):
    """Why an image was put into a class, or not, in words.

    Args:
        target: name of the class that is explained.
        predicted: name of the class that the network decided for.
        names: names of the x-features.
        contributions: v_i E_i of each (features,). Those that round to 0.0 are left out.

    Returns:
        A string.

    Example:

    >>> sentence("Blue_Jay", "Blue_Jay", ("crest", "x-feature 1", "wing"), np.array([14.5, -1.25, 22.71]))
    'Classified as Blue Jay because of wing (+22.7), crest (+14.5), in spite of x-feature 1 (−1.2).'
    >>> sentence("Blue_Jay", "Crow", ("crest", "wing"), np.array([0.5, 0.0]))
    'Classified as Crow. What speaks for Blue Jay: crest (+0.5).'
    """
    order = np.argsort(-np.asarray(contributions), kind="stable")
    parts = [(f"{names[number]} ({_signed(contributions[number])})", contributions[number]) for number in order]
    reasons = ", ".join(text for text, value in parts if value >= 0.05)
    objections = ", ".join(text for text, value in parts[::-1] if value <= -0.05)
    result = f"Classified as {_spoken(predicted)}"
    if predicted == target:
        result += f" because of {reasons}" if reasons else ", though no x-feature speaks for it"
        return result + (f", in spite of {objections}." if objections else ".")
    result += f". What speaks for {_spoken(target)}: {reasons or 'nothing'}"
    return result + (f"; against it: {objections}." if objections else ".")


class _Page:
    """Wires what `Concepts` draws to the components of Gradio."""

    def __init__(self, gradio, concepts):
        self.gradio, self.concepts = gradio, concepts
        with gradio.Blocks(title="keras-interp: concepts", analytics_enabled=False, delete_cache=(86400, 86400)) as self.app:
            gradio.Markdown(
                f"# The concepts of {concepts.model.name}\n"
                f"The logit of a class can be rebuilt from its {concepts.num_features} x-features. "
                "Here you see where in the image each one comes from, and say what it shows."
            )
            with gradio.Tab("One image"):
                self._image_tab()
            with gradio.Tab("One x-feature"):
                self._feature_tab()
            if concepts.cells:
                with gradio.Tab("The study"):
                    self._study_tab()

    def _targets(self, label):
        choices = [(_spoken(target), target) for target in self.concepts.targets]
        return self.gradio.Dropdown(choices, value=self.concepts.targets[0], label=label, filterable=True)

    def _image_tab(self):
        gradio, concepts = self.gradio, self.concepts
        first = concepts.targets[0]
        with gradio.Row():
            with gradio.Column(scale=1, min_width=320):
                classes = gradio.Dropdown([(_spoken(c), c) for c in concepts.classes], value=first, label="Images of")
                target = self._targets("Explained class")
                gradio.Markdown("Choose an image:")
                thumbnails = gradio.Gallery(
                    show_label=False,
                    columns=3,
                    height=420,
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="thumbnails",
                )
            with gradio.Column(scale=3):
                view = gradio.HTML(elem_id="image_view")
        number = gradio.State(int(concepts.of_class(first)[0]))

        def choose_class(label, target):
            numbers = concepts.of_class(label)[:THUMBNAILS]
            pictures = [_as_image(concepts.images[number]) for number in numbers]
            gallery = gradio.Gallery(pictures, selected_index=0)
            return gallery, int(numbers[0]), label if label in concepts.targets else target

        def choose_image(label, event: gradio.SelectData):
            return int(concepts.of_class(label)[event.index])

        draw = {"fn": concepts.draw_image, "inputs": [number, target], "outputs": view}
        chosen = {"fn": choose_class, "inputs": [classes, target], "outputs": [thumbnails, number, target]}
        self.app.load(**chosen).then(**draw)
        classes.input(**chosen).then(**draw)
        target.input(**draw)
        thumbnails.select(choose_image, classes, number).then(**draw)
        # Names may have changed in another tab of the page.
        self.redraw_image = draw

    def _feature_tab(self):
        gradio, concepts = self.gradio, self.concepts
        with gradio.Row():
            with gradio.Column(scale=1, min_width=320):
                target = self._targets("Class")
                feature = gradio.Radio([], label="x-feature", elem_id="feature")
                name = gradio.Textbox(
                    label="Its name: what does it show?", value="", max_lines=1, max_length=60, elem_id="name"
                )
                save = gradio.Button("Save the name", variant="primary", elem_id="save_name")
                gradio.Markdown("Would you trust a decision that rests on it?")
                with gradio.Row():
                    yes = gradio.Button("Yes", elem_id="trust_yes", min_width=100)
                    no = gradio.Button("No", elem_id="trust_no", min_width=100)
                votes = gradio.HTML(elem_id="votes")
            with gradio.Column(scale=3):
                view = gradio.HTML(elem_id="feature_view")

        def describe(target, feature):
            feature = concepts.main_feature(target) if feature is None else feature
            choices = [(_choice(number, name), number) for number, name in enumerate(concepts.names(target))]
            radio, given = gradio.Radio(choices, value=feature), concepts.given_name(target, feature)
            return radio, given, concepts.draw_votes(target, feature), concepts.draw_feature(target, feature)

        def rename(target, feature, name):
            concepts.name(target, feature, name)
            gradio.Info(
                f"Saved: x-feature {feature} of {_spoken(target)} is “{name.strip()}”." if name.strip() else "Name removed."
            )
            return describe(target, feature)

        def vote(trust, target, feature):
            concepts.notes.vote(target, feature, trust)
            return concepts.draw_votes(target, feature)

        shown = {"inputs": [target, feature], "outputs": [feature, name, votes, view]}
        self.app.load(describe, **shown)
        target.input(lambda target: describe(target, None), target, shown["outputs"])
        feature.input(describe, **shown)
        renamed = {"fn": rename, "inputs": [target, feature, name], "outputs": shown["outputs"]}
        for event in (save.click, name.submit):
            event(**renamed).then(**self.redraw_image)
        yes.click(functools.partial(vote, True), [target, feature], votes)
        no.click(functools.partial(vote, False), [target, feature], votes)

    def _study_tab(self):
        gradio, concepts = self.gradio, self.concepts
        with gradio.Row():
            with gradio.Column(scale=2, min_width=340):
                with gradio.Row():
                    target = self._targets("Class")
                    person = gradio.Textbox(
                        label="Your initials",
                        value="",
                        placeholder="then press Enter",
                        max_lines=1,
                        max_length=30,
                        elem_id="person",
                    )
                gradio.Markdown("Tick every part that the heatmap covers. The context is all that is not the object.")
                parts = gradio.CheckboxGroup(list(concepts.cells), label="The heatmap covers", elem_id="parts")
                with gradio.Row():
                    back = gradio.Button("Back", min_width=70, elem_id="back")
                    skip = gradio.Button("Skip", min_width=70, elem_id="skip")
                    save = gradio.Button("Save", variant="primary", min_width=70, elem_id="save_answer")
            with gradio.Column(scale=3):
                question = gradio.HTML(elem_id="question")
        results = gradio.HTML(elem_id="results")
        position = gradio.State(0)

        def show(target, person, position):
            asked = concepts.question(target, position)
            ticked = None if asked is None else concepts.answered(target, *asked, person.strip())
            ticked = [part for part in ticked or () if part in concepts.cells]
            return position, concepts.draw_question(target, position), ticked, concepts.draw_study(target)

        def start(target, person):
            return show(target, person, concepts.next_question(target, 0, person.strip()))

        def save_answer(target, person, position, ticked):
            asked = concepts.question(target, position)
            if asked is None or not ticked:
                raise gradio.Error("Tick one part at least, or skip the heatmap.", print_exception=False)
            number, feature = asked
            concepts.notes.answer(target, feature, concepts.image_key(number), ticked, person.strip())
            return show(target, person, concepts.next_question(target, position + 1, person.strip()))

        def skip_question(target, person, position):
            return show(target, person, concepts.next_question(target, position + 1, person.strip()))

        def go_back(target, person, position):
            return show(target, person, max(position - 1, 0))

        outputs = [position, question, parts, results]
        for event in (self.app.load, target.input, person.submit):
            event(start, [target, person], outputs)
        save.click(save_answer, [target, person, position, parts], outputs)
        skip.click(skip_question, [target, person, position], outputs)
        back.click(go_back, [target, person, position], outputs)


# --- Pieces of HTML. Names come from persons, so every one is escaped.

_CSS = """
.sentence { font-size: 1.35rem; line-height: 1.5; margin: 0 0 .5rem; font-weight: 600; }
.remark, .votes { font-size: 1rem; margin: 0 0 .75rem; opacity: .85; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); }
.grid.wide { grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }
.card { border: 1px solid rgba(128, 128, 128, .3); border-radius: 10px; overflow: hidden; }
.card img { display: block; width: 100%; height: auto; margin: 0; }
.card div { padding: .5rem .75rem .6rem; font-size: 1rem; line-height: 1.35; overflow-wrap: anywhere; }
.card .title { display: block; font-weight: 600; }
.card .for { color: #b71c1c; font-weight: 600; }
.card .against { color: #1f5fa8; font-weight: 600; }
.dark .card .for { color: #ff8a80; }
.dark .card .against { color: #90caf9; }
#thumbnails .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.card img.inactive { opacity: .55; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.5rem; font-size: .95rem; margin: 0 0 .9rem; }
.legend i { display: inline-block; width: 4rem; height: .8rem; border-radius: 3px; margin-right: .4rem; vertical-align: -1px; }
.result { font-size: 1.1rem; margin: 0 0 .5rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
.study { border-collapse: collapse; font-size: .95rem; }
.study th, .study td { border: 1px solid rgba(128, 128, 128, .3); padding: .35rem .5rem; text-align: center; }
.study tr:first-child th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; font-weight: 500; }
.study tr th:first-child { white-space: nowrap; text-align: left; }
"""

_LEGEND = (
    '<p class="legend"><span><i style="background:linear-gradient(90deg,#f4e3df,#b2182b)"></i>speaks for the class (+)</span>'
    '<span><i style="background:linear-gradient(90deg,#dfe8f0,#2166ac)"></i>speaks against it (−)</span>'
    "<span>Each heatmap has a scale of its own, and is smoothed a little.</span></p>"
)


_STUDY_REMARK = (
    '<p class="remark">Lower is better. O1 and O2 say how much the x-features fall on the same parts, locality (in nats) over '
    "how many parts each one spreads. X-features without answers are left out.</p>"
)


def _card(source, title, text, sign=""):
    """A picture with a title and a line of text; `sign` is "for", "against" or "inactive"."""
    title = f'<span class="title">{html.escape(title)}</span>' if title else ""
    return (
        f'<div class="card"><img class="{sign}" src="{source}" alt="{html.escape(text)}"><div>{title}'
        f'<span class="{sign}">{html.escape(text)}</span></div></div>'
    )


def _grid(cards, wide=False):
    return f'<div class="grid{" wide" * wide}">{"".join(cards)}</div>'


def _result(title, studies):
    """A line with O1, O2 and locality, the means of (orthogonality, localities) of some classes."""
    figures = [
        [o.excess_norm, o.negative_log_determinant, np.mean(p[~np.isnan(p)] if (~np.isnan(p)).any() else p)]
        for o, p in studies
    ]
    names = ("O1", "O2", "locality")
    text = " &nbsp; ".join(f"{name} <b>{_figure(value)}</b>" for name, value in zip(names, np.mean(figures, axis=0)))
    return f'<p class="result">{html.escape(title)}: &nbsp; {text}</p>'


def _figure(value):
    return "–" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:.3f}"


def _signed(value, space=""):
    # Adding 0 turns -0 into 0.
    value = round(float(value), 1) + 0.0
    return f"{'−' if value < 0 else '+'}{space}{abs(value):.1f}"


def _choice(number, name):
    return name if name == f"x-feature {number}" else f"{number}: {name}"


def _spoken(label):
    return label.replace("_", " ")


def _as_image(image):
    """An image (height, width, channels) as a `PIL.Image` in colour."""
    pixels = np.clip(np.rint(image), 0, 255).astype("uint8")
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]).convert("RGB")


def _picture(image, heat=None, against=False):
    """An image as the source of an <img>, under a heatmap (h, w) unless that is the same everywhere.

    The heatmap is smoothed a little, and scaled to its largest value.
    """
    picture = _as_image(image)
    width, height = picture.size
    scale = max(SIDE / max(width, height), 1.0)
    size = round(width * scale), round(height * scale)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    if heat is not None and np.ptp(heat):
        share = Image.fromarray(np.uint8(255 * (heat / heat.max()))).resize(size, Image.Resampling.BICUBIC)
        # Strided convolutions leave a lattice in winning probabilities, which the eye takes for a pattern of the image.
        share = np.asarray(share.filter(ImageFilter.GaussianBlur(SIDE / 50)), "float32")[..., None]
        share /= max(share.max(), 1.0)
        # As in `drawing`: red for, blue against. A grey and pale image, so that colour is heat.
        pale = 0.65 * np.asarray(picture.convert("L").convert("RGB"), "float32") + 0.35 * 255
        color = colormaps["RdBu_r"](0.5 - share[..., 0] / 2 if against else 0.5 + share[..., 0] / 2)[..., :3] * 255
        alpha = 0.8 * np.sqrt(share)
        picture = Image.fromarray((pale * (1 - alpha) + color * alpha).astype("uint8"))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
