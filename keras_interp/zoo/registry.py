"""The named models."""

import difflib
import fnmatch

from keras_interp.zoo.papers import dynk, fl, lsg, srae, xnet

PAPERS = {paper.key: paper for paper in (lsg.PAPER, fl.PAPER, dynk.PAPER, xnet.PAPER, srae.PAPER)}
ENTRIES = {entry.name: entry for entry in (*lsg.ENTRIES, *fl.ENTRIES, *dynk.ENTRIES, *xnet.ENTRIES, *srae.ENTRIES)}


def get_entry(name):
    """The entry of that name.

    Raises:
        KeyError: for an unknown name, with the nearest ones.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    nearest = difflib.get_close_matches(str(name), ENTRIES, n=3, cutoff=0.3)
    hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    raise KeyError(f"There is no model of that name.{hint} zoo.list_models() lists all. Received: {name!r}")


def matching(pattern):
    """Names of the entries that match an `fnmatch` pattern, sorted."""
    return sorted(fnmatch.filter(ENTRIES, pattern))
