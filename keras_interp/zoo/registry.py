"""The named models."""

import dataclasses
from typing import Any

from keras_interp.zoo import listing
from keras_interp.zoo.entry import Entry
from keras_interp.zoo.papers import dynk, fl, lsg, srae, xnet

PAPERS = {paper.key: paper for paper in (lsg.PAPER, fl.PAPER, dynk.PAPER, xnet.PAPER, srae.PAPER)}
ENTRIES = {entry.name: entry for entry in (*lsg.ENTRIES, *fl.ENTRIES, *dynk.ENTRIES, *xnet.ENTRIES, *srae.ENTRIES)}


def get_entry(name: str) -> Entry:
    """The entry of that name.

    Raises:
        KeyError: for an unknown name, with the nearest ones.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    raise listing.unknown(name, ENTRIES)


def facts_of(entry: Entry) -> dict[str, Any]:
    """What an entry says of its model, as `index.json` holds it for the command."""
    fields = ("name", "description", "method", "architecture", "dataset", "class_names", "input_shape", "paper_metrics")
    return {
        **{field: getattr(entry, field) for field in fields},
        "paper": dataclasses.asdict(entry.paper),
        "recipe": dataclasses.asdict(entry.recipe),
    }
