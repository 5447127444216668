"""Regenerates the tables and figures of a paper from the shipped models, with the paper's figures next to ours."""

import inspect

from reproduction.dynk import tables as dynk
from reproduction.fl import tables as fl
from reproduction.lsg import tables as lsg
from reproduction.srae import tables as srae
from reproduction.xnet import tables as xnet

PAPERS = {"dynk": dynk, "fl": fl, "lsg": lsg, "srae": srae, "xnet": xnet}


def reproduce(paper, data_dir=None, output="reproduce_output", full_attacks=False, dataset=None):
    """Regenerates the tables and figures of a paper: PNG, Markdown and CSV files, and a `README.md` that shows them all.

    Parts that need a model without shipped weights are skipped, with a note on the screen and in the README. Files appear one
    by one. The attacks of "lsg" come last and take some minutes; each result is cached in `attacks.json` for the same model,
    images and budget, so an interrupted run continues where it stopped.

    Args:
        paper: key of the paper, "dynk", "fl", "lsg", "srae" or "xnet".
        data_dir: folder of the prepared datasets, see `data.load`.
        output: folder to write to.
        full_attacks: for "lsg", whether to attack with the published budget, which takes hours without a GPU.
        dataset: for "lsg", an `ArrayDataset` to measure on instead of the test split.

    Returns:
        An iterator over the paths of the files, each as soon as it is written.

    Raises:
        KeyError: for an unknown paper.
        ValueError: for an option that the paper does not use.
        FileNotFoundError: if the dataset of "lsg" is not prepared; the others skip parts whose dataset is missing.
    """
    if paper not in PAPERS:
        raise KeyError(f"`paper` must be one of {sorted(PAPERS)}. Received: paper={paper!r}")
    given = {"full_attacks": full_attacks, "dataset": dataset}
    taken = inspect.signature(PAPERS[paper].reproduce).parameters
    if unused := [name for name, value in given.items() if value and name not in taken]:
        raise ValueError(f"This paper does not use `{'` and `'.join(unused)}`. Received: paper={paper!r}")
    return PAPERS[paper].reproduce(data_dir, output, **{name: value for name, value in given.items() if name in taken})
