"""For maintainers: measures a trained model and adds it to the checkout's zoo, with card, picture and pins.

    python -m tools.release NAME FOLDER [FOLDER ...] [--data-dir DIR] [--without-weights | --gate-only]
    python -m tools.release NAME --on-hub hf://user/repo@COMMIT
    python -m tools.release --index
    python -m tools.release --check [NAME ...] [--data-dir DIR]

FOLDER is the output of `keras-interp train NAME`. Further folders are runs with other seeds: the first one ships, and
`metrics.json` has the figures of all. Without a folder, the shipped model is measured again. The second form records where
`keras-interp publish` put the shipped weights, for installations without them. `--check` writes nothing: it remeasures shipped
models, all by default, and fails if a figure or a golden output has changed.
"""

import argparse
import json
import pathlib
import shutil
import sys
import time

import numpy as np

from keras_interp.zoo import artifacts, cards, catalogue, evaluation, hub, listing
from keras_interp.zoo.artifacts import LOG
from keras_interp.zoo.registry import ENTRIES, facts_of, get_entry
from reproduction.lsg.tables import GATE

ROOT = pathlib.Path(__file__).parents[1]
TOLERANCE = 1e-4
# Backends sum in different orders.
GOLDEN_TOLERANCE = 1e-3


def release_gate(name, folder):
    """Adds only the gate matrix and the log of a trained model to the checkout, for figures that need no more."""
    target = ROOT / "zoo" / name
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / GATE, catalogue.load(pathlib.Path(folder)).gate)
    shutil.copyfile(pathlib.Path(folder) / LOG, target / LOG)
    artifacts.pin(name, target)


def release_location(name, text):
    """Records the commit on the Hub with a shipped model's files, after comparing them with the pins.

    Raises:
        ValueError: for a reference that names no full commit.
    """
    reference = hub.Reference.parse(text)
    if not reference.is_pinned:
        raise ValueError(f"The reference must name a commit, hf://user/repo@COMMIT. Received: {text!r}")
    hub.fetch(reference, artifacts.pins_of(name))
    locations = {**json.loads(listing.LOCATIONS.read_text()), name: str(reference)}
    listing.LOCATIONS.write_text(json.dumps(locations, indent=1, sort_keys=True) + "\n")


def release(name, folders=(), data_dir=None, with_weights=True):
    """Measures a trained model on the test split and writes its artifact, card and pins into the checkout.

    Args:
        name: name of the zoo model.
        folders: folders that `train` wrote, one for each seed; or none for the artifact in the checkout.
        data_dir: folder of the prepared datasets.
        with_weights: whether to ship the weights, or only figures and training settings.
    """
    entry = get_entry(name)
    target = ROOT / "zoo" / name
    test = entry.load_data("test", data_dir)
    folders = [pathlib.Path(folder) for folder in folders]
    measured = [evaluation.evaluate(folder, data_dir, test) for folder in folders or [target]]
    metrics = measured[0]
    if len(folders) > 1:
        metrics["seeds"] = {
            "seeds": [_provenance(folder)["recipe"]["seed"] for folder in folders],
            "values": {metric: [one["values"][metric] for one in measured] for metric in metrics["values"]},
        }
    elif not folders:
        seeds = (artifacts.read_metrics(name) or {}).get("seeds")
        if seeds and set(seeds["values"]) != set(metrics["values"]):
            raise ValueError(f"The metrics have changed: release {name} again from the folders of all its seeds")
        metrics |= {"seeds": seeds} if seeds else {}
    if folders:
        target.mkdir(parents=True, exist_ok=True)
        weights = (artifacts.CONFIG, artifacts.WEIGHTS, artifacts.GOLDEN) if with_weights else ()
        for file in (artifacts.METADATA, LOG, *weights):
            shutil.copyfile(folders[0] / file, target / file)
    (target / artifacts.METRICS).write_text(json.dumps(metrics, indent=1) + "\n")
    if with_weights:
        if entry.shows_examples:
            model = catalogue.load(target)
            # An explanation module explains only some of the classes.
            classes = getattr(model, "target_indices", range(len(test.class_names)))[:4]
            examples = [np.flatnonzero(test.targets == number)[0] for number in classes] or range(4)
            model.explain(test.inputs[list(examples)]).plot(path=target / artifacts.EXPLANATION)
        cards.write_card(target)
    artifacts.pin(name, target)
    update_readme(ROOT / "README.md")


# Models for newcomers: one of each method with its baseline.
README_MODELS = (
    *("lsg_resnet20_cifar10", "lsg_fixed_resnet20_cifar10", "std_resnet20_cifar10"),
    *("fl_mlp_mnist", "fl_mlp_california_housing", "std_mlp_california_housing"),
    *("dynk5_resnet18w32_cifar10", "std_resnet18w32_cifar10"),
    *("xnet_capped_resnet18w32_celeb_a_mini", "std_resnet18w32_celeb_a_mini"),
    *("srae_mobilenet_cub100", "std_mobilenet_cub100"),
)


def readme_table():
    """The README's table of `README_MODELS`, as Markdown: each paper's main figure, next to the paper's value."""
    lines = []
    for name in README_MODELS:
        entry, values = ENTRIES[name], artifacts.read_metrics(name)["values"]
        metric, heading = next((metric, heading) for metric, heading in entry.paper.headline.items() if metric in values)
        figure = cards.figure(values[metric]) + _beside(entry.paper_metrics.get(metric))
        lines.append(f"| [`{name}`](zoo/{name}/README.md) | {entry.method} | `{entry.dataset}` | {heading}: {figure} |")
    return "\n".join(["| model | method | dataset | measured (paper) |", "|---|---|---|---|", *lines])


def update_readme(path):
    """Replaces the table between the markers of a README by `readme_table`."""
    path = pathlib.Path(path)
    start, end = "<!-- models: written by tools.release -->", "<!-- end of models -->"
    before, rest = path.read_text().split(start)
    _, after = rest.split(end)
    path.write_text("\n\n".join([before + start, readme_table(), end + after]))


def _beside(value):
    return "" if value is None else f" ({cards.figure(value)})"


def check(name, data_dir=None):
    """Remeasures a shipped model and returns the changes, a list of sentences.

    Figures may differ by 1e-4, relative above 1: `metrics.json` was written on another machine.
    """
    folder = ROOT / "zoo" / name
    golden = artifacts.golden_difference(catalogue.load(folder), folder)
    moved = [f"golden outputs differ by {golden:.1e}"] if golden > GOLDEN_TOLERANCE else []
    before, now = (found["values"] for found in (artifacts.read_metrics(name), evaluation.evaluate(folder, data_dir)))
    for metric in sorted({*before, *now}):
        old, new = before.get(metric, np.nan), now.get(metric, np.nan)
        old, new = (np.nan if value is None else value for value in (old, new))
        if not np.isclose(old, new, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=metric in before and metric in now):
            moved.append(f"{metric} was {old}, is {new}")
    return moved


def check_all(names, data_dir=None):
    """Runs `check` on several models, with a line for each; returns the number of changed ones."""
    names = names or [name for name in sorted(ENTRIES) if (ROOT / "zoo" / name / artifacts.WEIGHTS).is_file()]
    failed = 0
    for name in names:
        start = time.time()
        moved = check(name, data_dir)
        failed += bool(moved)
        print(f"{name}: {'; '.join(moved) or 'as before'} ({time.time() - start:.0f} s)", flush=True)
    return failed


def _provenance(folder):
    return json.loads((folder / artifacts.METADATA).read_text())["keras_interp"]["provenance"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--data-dir")
    parser.add_argument("--without-weights", action="store_true", help="ship only figures and log")
    parser.add_argument("--on-hub", metavar="REFERENCE", help="record the place of the shipped weights on the Hub")
    parser.add_argument("--gate-only", action="store_true", help="ship the gate matrix and the log, no weights")
    parser.add_argument("--check", action="store_true", help="remeasure shipped models, and fail if a figure has changed")
    parser.add_argument("--index", action="store_true", help="write the facts of the entries, for the command")
    options = parser.parse_args()
    if options.index:
        facts = {name: facts_of(entry) for name, entry in sorted(ENTRIES.items())}
        listing.INDEX.write_text(json.dumps(facts, indent=1) + "\n")
    elif options.check:
        sys.exit(check_all([options.name, *options.folders] if options.name else [], options.data_dir))
    elif not options.name:
        parser.error("give the name of a model, or --index")
    elif options.on_hub:
        release_location(options.name, options.on_hub)
    elif options.gate_only:
        release_gate(options.name, options.folders[0])
    else:
        release(options.name, options.folders, options.data_dir, not options.without_weights)
