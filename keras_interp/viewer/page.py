"""The concept viewer: a local web page to look at x-features, name them, vote on them and take part in the study.

It is the interactive visualization of "Embedding Deep Networks into Visual Explanations" (section 2.4, Figure 3) and the page
of its user study (Table 1b). The page needs Gradio: pip install 'keras-interp[view]'.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_interp.explain.concept_notes import ConceptNotes
from keras_interp.typing import ArrayLike
from keras_interp.viewer.concepts import THUMBNAILS, Concepts
from keras_interp.viewer.html import CSS, as_image, choice, spoken


def require_gradio() -> Any:
    """Returns the module `gradio`, or raises an ImportError with the install command."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError("The viewer needs Gradio. Install it with: pip install 'keras-interp[view]'") from error
    return gradio


def build(
    model: Any,
    images: np.ndarray,
    labels: ArrayLike | None = None,
    part_names: Sequence[str] = (),
    notes: ConceptNotes | None = None,
) -> Any:
    """Builds the page, see `Concepts` for what it shows.

    Args:
        model: an `ExplanationModule` or `LassoModule` of images.
        images: uint8 array (n, height, width, channels) of raw pixels.
        labels: integers (n,); defaults to the decisions of the model.
        part_names: names of an object's parts for the study; without any there is no study.
        notes: `ConceptNotes` that store the users' input; by default only in memory.

    Returns:
        A `gradio.Blocks`, for `serve`.

    Raises:
        ImportError: without Gradio.
        TypeError: for another model, or labels that are not integers.
        ValueError: for images of the wrong shape, NaN, labels out of range, no image of a target, or notes of another model.

    Example, for your own model and data:

        app = viewer.build(module, images, labels, notes=ConceptNotes("concepts.json"))
        viewer.serve(app)
    """
    gradio = require_gradio()
    return _Page(gradio, Concepts(model, images, labels, part_names, notes)).app


def serve(app: Any, host: str = "127.0.0.1", port: int | None = None, browser: bool = True, block: bool = True) -> str:
    """Serves the page until it is interrupted.

    Args:
        app: what `build` returned.
        host: address to listen on. Anyone who can reach it can see the images and change names, votes and answers.
        port: port; defaults to the first free one from 7860.
        browser: whether to open the page in the browser.
        block: whether to wait; if not, the server runs in a thread until `app.close()`.

    Returns:
        The page's address.

    Raises:
        OSError: if the port is taken.
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
        # The theme's own fonts would be loaded from an external server.
        theme=gradio.themes.Soft(text_size="lg", primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=["monospace"]),
        css=CSS,
    )
    if block:
        print(f"The concept viewer is at {address} (stop it with Ctrl+C)", flush=True)
        app.block_thread()
    return address


class _Page:
    """Wires what `Concepts` draws to the components of Gradio."""

    def __init__(self, gradio: Any, concepts: Concepts) -> None:
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
        choices = [(spoken(target), target) for target in self.concepts.targets]
        return self.gradio.Dropdown(choices, value=self.concepts.targets[0], label=label, filterable=True)

    def _image_tab(self):
        gradio, concepts = self.gradio, self.concepts
        first = concepts.targets[0]
        with gradio.Row():
            with gradio.Column(scale=1, min_width=320):
                classes = gradio.Dropdown([(spoken(c), c) for c in concepts.classes], value=first, label="Images of")
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
            pictures = [as_image(concepts.images[number]) for number in numbers]
            gallery = gradio.Gallery(pictures, selected_index=0)
            return gallery, int(numbers[0]), label if label in concepts.targets else target

        def choose_image(label, event: gradio.SelectData):  # pyright: ignore[reportInvalidTypeForm]
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
                gradio.Markdown("Would you trust a decision based on it?")
                with gradio.Row():
                    yes = gradio.Button("Yes", elem_id="trust_yes", min_width=100)
                    no = gradio.Button("No", elem_id="trust_no", min_width=100)
                votes = gradio.HTML(elem_id="votes")
            with gradio.Column(scale=3):
                view = gradio.HTML(elem_id="feature_view")

        def describe(target, feature):
            feature = concepts.main_feature(target) if feature is None else feature
            choices = [(choice(number, name), number) for number, name in enumerate(concepts.names(target))]
            radio, given = gradio.Radio(choices, value=feature), concepts.given_name(target, feature)
            return radio, given, concepts.draw_votes(target, feature), concepts.draw_feature(target, feature)

        def rename(target, feature, name):
            concepts.name(target, feature, name)
            gradio.Info(
                f"Saved: x-feature {feature} of {spoken(target)} is “{name.strip()}”." if name.strip() else "Name removed."
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
                raise gradio.Error("Tick at least one part, or skip the heatmap.", print_exception=False)
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
