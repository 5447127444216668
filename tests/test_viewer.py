"""The concept viewer, down to the page in a browser."""

import html
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from keras_interp import data, viewer, zoo
from keras_interp.cli import main
from keras_interp.explain import ConceptNotes
from keras_interp.metrics.concepts import locality, orthogonality
from keras_interp.models import Classifier, ExplanationModule, LassoModule
from keras_interp.viewer import concepts as concepts_page
from keras_interp.viewer import html as html_page
from keras_interp.zoo import registry
from tests.tiny import register, tiny_backbone

LABELS = ("Blue_Jay", "Crow", "Wren")
PARTS = ("beak", "tail", "wing")


@pytest.fixture
def module(rng):
    """A random module for two classes, whose x-features contribute for and against."""
    classifier = Classifier(tiny_backbone((16, 16, 3)), class_names=LABELS)
    options = {"num_features": 3, "hidden_units": (6,), "heatmap_layer": "last_relu", "name": "birds"}
    module = ExplanationModule(classifier, "pooling", ["Blue_Jay", "Wren"], **options)
    for weight in module.autoencoder.trainable_weights:
        weight.assign(rng.normal(0.5 if weight.name.startswith("encoder") else 0.0, 0.4, weight.shape))
    module.autoencoder.predictor_kernel.assign([[[1.5], [-0.7], [0.9]]] * 2)
    return module


@pytest.fixture
def birds(rng):
    """Ten images (16, 16, 3) and their classes."""
    return rng.integers(0, 256, (10, 16, 16, 3), dtype="uint8"), np.arange(10) % 3


@pytest.fixture
def concepts(module, birds, tmp_path):
    return viewer.Concepts(module, *birds, PARTS, ConceptNotes(tmp_path))


def positions(text, pieces):
    places = [text.find(html.escape(piece)) for piece in pieces]
    assert min(places) >= 0, (pieces, text)
    return places


def test_one_image_has_its_x_features_by_contribution(concepts, module):
    explanation = module.explain(concepts.images[[3]], "Blue_Jay")
    concepts.name("Blue_Jay", 2, "<b>crest</b>")
    names = np.array(["x-feature 0", "x-feature 1", "<b>crest</b>"])
    order = explanation.top_units(3)[0]
    page = concepts.draw_image(3, "Blue_Jay")
    cards = page[page.index('class="grid"') :]
    assert positions(cards, names[order]) == sorted(positions(cards, names[order]))
    assert "<b>crest" not in page and page.count("<img") == 4
    for value in explanation.contributions[0]:
        assert f"{'−' if value < 0 else '+'}{abs(value):.1f}" in cards
    assert 'span class="against"' in cards and 'span class="for"' in cards
    assert f"= {explanation.logits[0, 0]:.1f};" in page


def test_one_x_feature_has_the_images_where_it_contributes_most(concepts, module):
    numbers, values = concepts.strongest("Wren", 0, count=2)
    own = np.flatnonzero(concepts.labels == 2)
    contributions = module.explain(concepts.images[own], "Wren").contributions[:, 0]
    assert numbers.tolist() == own[np.argsort(-contributions)][:2].tolist()
    np.testing.assert_allclose(values, np.sort(contributions)[::-1][:2], rtol=1e-4)
    page = concepts.draw_feature("Wren", 0)
    assert page.count("<img") == 3 and "x-feature 0 contributes most" in page


@pytest.mark.parametrize(
    ("contributions", "expected"),
    [
        ([22.71, 14.5, 0.0], "Classified as Blue Jay because of crest (+22.7), wing (+14.5)."),
        ([-1.0, 2.0, -3.0], "Classified as Blue Jay because of wing (+2.0), in spite of tail (−3.0), crest (−1.0)."),
        ([0.04, 0.0, -0.04], "Classified as Blue Jay, though no x-feature speaks for it."),
    ],
)
def test_the_sentence(contributions, expected):
    names = ("crest", "wing", "tail")
    assert concepts_page.sentence("Blue_Jay", "Blue_Jay", names, np.array(contributions)) == expected


def test_the_sentence_on_another_class():
    told = concepts_page.sentence("Blue_Jay", "Crow", ("crest", "x-feature 1"), np.array([0.5, -2.0]))
    assert told == "Classified as Crow. What speaks for Blue Jay: crest (+0.5); against it: x-feature 1 (−2.0)."


def test_inactive_x_features_and_empty_heatmaps_have_no_heat(concepts, module, rng):
    plain = html_page.picture(concepts.images[0])
    assert html_page.picture(concepts.images[0], np.ones((4, 4))) == plain != html_page.picture(concepts.images[0], np.eye(4))
    assert html_page.picture(concepts.images[0], np.eye(4), against=True) != html_page.picture(concepts.images[0], np.eye(4))
    assert "from no place" in concepts._contribution(0, 2.0, np.ones((4, 4)))
    module.autoencoder.predictor_kernel.assign(np.zeros((2, 3, 1)))
    assert concepts.draw_image(0, "Wren").count("not active here") == 2 * 3
    assert "contributes to none" in concepts.draw_feature("Wren", 1)


def test_the_study_is_that_of_evaluate(concepts):
    counts = np.array([[2, 0, 1, 0], [0, 3, 1, 0], [0, 0, 0, 0]])
    own = concepts.of_class("Blue_Jay")
    for person in range(3):
        for feature, row in enumerate(counts):
            if ticked := [cell for cell, count in zip(concepts.cells, row) if person < count]:
                concepts.notes.answer("Blue_Jay", feature, concepts.image_key(own[0]), ticked, str(person))
    found, apart, places = concepts.study("Blue_Jay")
    np.testing.assert_array_equal(found, counts)
    assert apart == orthogonality(counts[None, :, None].astype(float)) and apart.dead == 1
    np.testing.assert_array_equal(places, locality(counts[None].astype(float)))
    # By hand: shares of 2/3 and 1/3, 3/4 and 1/4.
    by_hand = [-sum(p * np.log(p) for p in shares) for shares in ((2 / 3, 1 / 3), (0.75, 0.25))]
    np.testing.assert_allclose(places[:2], by_hand)
    page = concepts.draw_study("Blue_Jay")
    assert f"O1 <b>{apart.excess_norm:.3f}</b>" in page and f"locality <b>{np.mean(by_hand):.3f}</b>" in page
    assert "Mean of" not in page and "all persons: 5" in page
    concepts.notes.answer("Wren", 0, "other", ["tail"])
    assert "Mean of 2 classes" in concepts.draw_study("Wren")


def test_the_study_asks_each_person_for_every_heatmap_once(concepts, monkeypatch):
    own = concepts.of_class("Wren").tolist()
    monkeypatch.setattr(concepts, "_heat", lambda target, number: np.ones((3, 2, 2)) * [[[number != own[0]]], [[1]], [[1]]])
    asked, position = [], concepts.next_question("Wren", 0, "A")
    while (question := concepts.question("Wren", position)) is not None:
        asked.append(question)
        concepts.notes.answer("Wren", question[1], concepts.image_key(question[0]), ["context"], "A")
        position = concepts.next_question("Wren", 0, "A")
    # All but the empty one.
    assert asked == [(number, feature) for number in own for feature in range(3)][1:]
    # However often one skips at the end.
    assert concepts.next_question("Wren", 3 * len(own) + 4, "A") == 3 * len(own)
    assert concepts.next_question("Wren", 0, "B") == 1 and "No heatmap is left" in concepts.draw_question("Wren", position)


def test_names_go_into_explanations_and_come_back(module, birds, tmp_path):
    zoo.save(module, tmp_path / "model")
    concepts = viewer.Concepts(zoo.load(tmp_path / "model"), *birds, PARTS, ConceptNotes(tmp_path / "model"))
    concepts.name("Wren", 1, "cocked tail")
    loaded = zoo.load(tmp_path / "model")
    assert loaded.explain(birds[0][:2], "Wren").unit_names == ("x-feature 0", "cocked tail", "x-feature 2")
    assert "cocked tail" in viewer.Concepts(loaded, *birds).sentence(2, "Wren")
    with pytest.raises(ValueError, match=r"3 x-features.*'Wren', 7"):
        concepts.name("Wren", 7, "tail")
    concepts.name("Wren", 1, "")
    assert zoo.load(tmp_path / "model").concept_names == {}


def test_notes_of_another_model_are_refused(module, birds, tmp_path):
    zoo.save(module, tmp_path / "model")
    ConceptNotes(tmp_path / "model").name("Wren", 3, "one too many")
    with pytest.raises(ValueError, match=r"3 for each.*concepts.json with 'Wren'"):
        zoo.load(tmp_path / "model")
    notes = ConceptNotes()
    notes.vote("Crow", 0, True)
    with pytest.raises(ValueError, match="with 'Crow'"):
        notes.apply(module)


def test_a_lasso_has_x_features_too(birds, tmp_path):
    classifier = Classifier(tiny_backbone((16, 16, 3)), class_names=LABELS)
    module = LassoModule(classifier, "pooling", ["Blue_Jay", "Wren"], heatmap_layer="last_relu")
    coefficients = np.zeros((2, 16), "float32")
    coefficients[0, [3, 5]], coefficients[1, 7] = (1.0, -2.0), 1.5
    module.coefficients.assign(coefficients)
    folder = zoo.save(module, tmp_path / "lasso")
    concepts = viewer.Concepts(module, *birds, PARTS, ConceptNotes(folder))
    concepts.name("Blue_Jay", 1, "tail")
    assert concepts.draw_image(0, "Blue_Jay").count("<img") == 3 and "tail" in concepts.sentence(0, "Blue_Jay")
    assert zoo.load(folder).feature_names("Blue_Jay") == ("x-feature 0", "tail")
    zoo.save(zoo.load(folder), tmp_path / "again")
    assert zoo.load(tmp_path / "again").concept_names == {"Blue_Jay": ("", "tail")}


def test_decisions_stand_in_for_labels(module, birds):
    module.get_layer("logits").bias.assign([9.0, 0.0, 0.0])
    concepts = viewer.Concepts(module, birds[0])
    assert concepts.targets == ("Blue_Jay",) and concepts.classes == ("Blue_Jay",) and concepts.cells == ()


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (np.zeros((2, 8, 8, 3), "uint8"), [0, 1], ValueError, r"\(n, 16, 16, 3\)"),
        (np.zeros((2, 16, 16, 3), "uint8"), [0, 3], ValueError, r"\[0, 3\)"),
        (np.zeros((2, 16, 16, 3), "uint8"), [0], ValueError, "2 images.*1"),
        (np.zeros((2, 16, 16, 3), "uint8"), [1, 1], ValueError, "explained class"),
    ],
)
def test_bad_input(module, images, labels, error, message):
    with pytest.raises(error, match=message):
        viewer.Concepts(module, images, np.array(labels))


def test_other_models_are_refused(birds):
    with pytest.raises(TypeError, match=r"ExplanationModule.*Classifier"):
        viewer.Concepts(Classifier(tiny_backbone((16, 16, 3)), class_names=LABELS), *birds)


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_command(module, birds, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    served = []
    monkeypatch.setattr(viewer, "serve", lambda *arguments: served.append(arguments))
    folder = zoo.save(module, tmp_path / "model")
    np.savez(tmp_path / "birds.npz", inputs=birds[0], targets=birds[1])
    result = run("view", folder, "--data", tmp_path / "birds.npz", "--port", 7999, "--no-browser")
    assert result.exit_code == 0, result.output
    assert str(folder / "concepts.json") in result.output.replace("\n", "")
    assert served[0][1:] == ("127.0.0.1", 7999, False)
    result = run("view", folder)
    assert result.exit_code == 1 and "--data" in result.output and "'birds'" in result.output
    result = run("view", folder, "--data", tmp_path / "birds.npz", "--notes", tmp_path / "mine.json", "--host", "::1")
    assert str(tmp_path / "mine.json") in result.output.replace("\n", "") and served[1][1:] == ("::1", None, True)


def test_command_refuses_other_models(tmp_path):
    pytest.importorskip("gradio")
    folder = zoo.save(Classifier(tiny_backbone((16, 16, 3)), class_names=LABELS), tmp_path / "model")
    result = run("view", folder)
    assert result.exit_code == 1 and "ExplanationModule" in result.output and "Traceback" not in result.output


def test_without_gradio_it_says_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run("view", "any")
    assert result.exit_code == 1 and "pip install 'keras-interp[view]'" in result.output


def test_a_place_that_cannot_be_written_is_refused(module, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setattr(ConceptNotes, "writable", False)
    result = run("view", zoo.save(module, tmp_path / "model"))
    assert result.exit_code == 1 and "--notes" in result.output


def test_command_shows_the_data_set_of_a_zoo_model(module, birds, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    register()
    asked, built = [], []

    class Birds(type(registry.ENTRIES["tiny_lsg"])):
        part_names = PARTS

        def load_data(self, split, data_dir=None):
            asked.append((split, data_dir))
            return data.ArrayDataset(*birds, LABELS)

    monkeypatch.setitem(registry.ENTRIES, "birds", Birds(**vars(registry.ENTRIES["tiny_lsg"])))
    monkeypatch.setattr(viewer, "build", lambda *arguments: built.append(arguments))
    monkeypatch.setattr(viewer, "serve", lambda *arguments: None)
    result = run("view", zoo.save(module, tmp_path / "model"), "--data-dir", tmp_path, "--split", "train")
    assert result.exit_code == 0, result.output
    assert asked == [("train", tmp_path)] and built[0][3] == PARTS
    np.testing.assert_array_equal(built[0][2], birds[1])


@pytest.fixture
def browser():
    pytest.importorskip("gradio")
    api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium in the system's packages")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_page(browser, module, birds, tmp_path):
    notes = ConceptNotes(tmp_path)
    app = viewer.build(module, *birds, PARTS, notes)
    address = viewer.serve(app, browser=False, block=False)
    try:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.locator("#image_view .card").nth(3).wait_for()
        assert "Classified as" in page.locator("#image_view .sentence").inner_text()

        page.get_by_role("tab", name="One x-feature").click()
        page.locator("#feature label").nth(1).click()
        page.get_by_text("on which x-feature 1 contributes").wait_for()
        page.locator("#name input, #name textarea").fill("blue crest")
        page.locator("#save_name").click()
        page.get_by_text("1: blue crest").wait_for()
        page.locator("#trust_no").click()
        page.get_by_text("1 do not").wait_for()

        page.get_by_role("tab", name="The study").click()
        page.locator("#question .card").nth(1).wait_for()
        page.locator("#parts").get_by_label("tail", exact=True).check()
        page.locator("#save_answer").click()
        page.get_by_text("Answers on Blue Jay so far, of all persons: 1").wait_for()

        page.reload()
        page.locator("#image_view .title", has_text="blue crest").wait_for()
        page.get_by_role("tab", name="One x-feature").click()
        page.get_by_text("1: blue crest").wait_for()
        # Nothing comes from, or goes to, another machine.
        assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked)
    finally:
        app.close()
    kept = ConceptNotes(tmp_path)
    assert kept.names("Blue_Jay") == {1: "blue crest"} and kept.votes("Blue_Jay", 1) == (0, 1)
    assert kept.counts("Blue_Jay", 3, (*PARTS, "context")).sum() == 1
