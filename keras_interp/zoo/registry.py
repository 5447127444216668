"""The named models."""

import dataclasses
from typing import Any

from keras_interp.zoo import listing
from keras_interp.zoo.entry import Entry
from keras_interp.zoo.papers import dynk, fl, lsg, srae, xnet

MODULES = (lsg, fl, dynk, xnet, srae)
PAPERS = {module.PAPER.key: module.PAPER for module in MODULES}
ENTRIES = {entry.name: entry for module in MODULES for entry in module.ENTRIES}


def get_entry(name: str) -> Entry:
    """The entry of that name.

    Raises:
        KeyError: for an unknown name, with the nearest ones.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    raise listing.unknown(name, ENTRIES)


def facts_of(entry: Entry) -> dict[str, Any]:
    """Facts about an entry's model, as `index.json` holds them for the command."""
    names = ("name", "description", "method", "architecture", "dataset", "class_names", "input_shape", "paper_metrics")
    return {
        **{field: getattr(entry, field) for field in (*names, "comparison")},
        "paper": dataclasses.asdict(entry.paper),
        "recipe": dataclasses.asdict(entry.recipe),
    }
