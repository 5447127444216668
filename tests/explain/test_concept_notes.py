import json
import threading

import numpy as np
import pytest

from keras_interp.explain import ConceptNotes, concept_notes


def noted(path):
    notes = ConceptNotes(path)
    notes.name("Blue_Jay", 1, "  blue\nwing ")
    notes.vote("Blue_Jay", 1, True)
    notes.vote("Blue_Jay", 1, False)
    notes.vote("Blue_Jay", 1, True)
    notes.answer("Blue_Jay", 0, "image a", ["tail", "context", "tail"], "Ä.")
    notes.answer("Blue_Jay", 0, "image a", ["tail"])
    return notes


def test_round_trip(tmp_path):
    noted(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["concepts.json"]
    for notes in (ConceptNotes(tmp_path), ConceptNotes(tmp_path / "concepts.json")):
        assert notes.names("Blue_Jay") == {1: "blue wing"} and notes.votes("Blue_Jay", 1) == (2, 1)
        assert notes.names("Crow") == {} and notes.votes("Crow", 0) == (0, 0)
        assert notes.answers("Blue_Jay", 0, "Ä.") == [{"person": "Ä.", "image": "image a", "parts": ["context", "tail"]}]
        np.testing.assert_array_equal(notes.counts("Blue_Jay", 2, ("beak", "tail", "context")), [[0, 2, 1], [0, 0, 0]])


def test_an_answer_takes_the_place_of_the_same_persons_last():
    notes = noted(None)
    notes.answer("Blue_Jay", 0, "image a", ["beak"], "Ä.")
    notes.answer("Blue_Jay", 0, "image b", ["beak"], "Ä.")
    np.testing.assert_array_equal(notes.counts("Blue_Jay", 1, ("beak", "tail", "context")), [[2, 1, 0]])


def test_a_write_that_fails_leaves_the_file_and_the_notes(tmp_path, monkeypatch):
    notes = noted(tmp_path)
    before = notes.path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left")

    for name in ("json.dump", "os.replace"):
        with monkeypatch.context() as context, pytest.raises(OSError, match="no space"):
            context.setattr(f"keras_interp.explain.concept_notes.{name}", full)
            notes.name("Blue_Jay", 1, "other")
        assert notes.path.read_bytes() == before and notes.names("Blue_Jay") == {1: "blue wing"}
        assert [path.name for path in tmp_path.iterdir()] == ["concepts.json"]


def test_two_viewers_of_one_file_lose_nothing(tmp_path):
    one, other = ConceptNotes(tmp_path / "notes.json"), ConceptNotes(tmp_path / "notes.json")
    one.name("jay", 0, "wing")
    other.vote("jay", 1, trust=True)
    assert other.names("jay") == {0: "wing"}
    found = ConceptNotes(tmp_path / "notes.json")
    assert found.names("jay") == {0: "wing"} and found.votes("jay", 1) == (1, 0)


def test_threads_lose_nothing(tmp_path):
    notes = ConceptNotes(tmp_path)
    votes = [threading.Thread(target=notes.vote, args=("crow", n % 3, n % 2 == 0)) for n in range(30)]
    for vote in votes:
        vote.start()
    for vote in votes:
        vote.join()
    assert np.sum([ConceptNotes(tmp_path).votes("crow", n) for n in range(3)], axis=0).tolist() == [15, 15]


def edited(change):
    content = {"concept_notes": 1, "targets": {"jay": {"0": {"name": "a", "votes": {"yes": 1, "no": 0}, "answers": []}}}}
    change(content["targets"]["jay"]["0"])
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"concept_notes": 1, "targ', "not JSON"),
        ("\ud800", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 10_000, "not JSON"),
        ("[]", "other content"),
        ('{"module": "keras"}', "other content"),
        ('{"concept_notes": 1}', "other content"),
        ('{"concept_notes": 2, "targets": {}}', "format 2"),
        ('{"concept_notes": 1, "targets": {"jay": []}}', "'jay'"),
        ('{"concept_notes": 1, "targets": {"jay": {"one": {}}}}', "damaged"),
        ('{"concept_notes": 1, "targets": {"jay": {"-1": {}}}}', "damaged"),
        (edited(lambda of: of.update(name=3)), "damaged"),
        (edited(lambda of: of.update(code="print()")), "damaged"),
        (edited(lambda of: of.update(votes={"yes": -1, "no": 0})), "damaged"),
        (edited(lambda of: of.update(votes={"yes": True, "no": 0})), "damaged"),
        (edited(lambda of: of.update(votes=[1, 0])), "damaged"),
        (edited(lambda of: of.update(answers=[{"person": "A", "image": "a", "parts": []}])), "damaged"),
        (edited(lambda of: of.update(answers=[{"person": "A", "image": "a", "parts": [1]}])), "damaged"),
        (edited(lambda of: of.update(answers=[{"image": "a", "parts": ["tail"]}])), "damaged"),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path, text, message):
    path = tmp_path / concept_notes.FILE_NAME
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=message) as caught:
        ConceptNotes(path)
    assert f"Received: {path}" in str(caught.value)


def test_an_answer_needs_a_part():
    with pytest.raises(ValueError, match=r"one part.*\[\]"):
        ConceptNotes().answer("jay", 0, "a", [])


def test_where_notes_can_be_written(tmp_path):
    assert ConceptNotes().writable and ConceptNotes(tmp_path / "new" / "folder" / "concepts.json").writable
    ConceptNotes(tmp_path / "new" / "folder" / "concepts.json").vote("jay", 0, True)
    assert ConceptNotes(tmp_path / "new" / "folder").votes("jay", 0) == (1, 0)
