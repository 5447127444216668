"""From a folder of pictures or a table to a trained, measured and explained model."""

import dataclasses
import functools
import json
import pathlib
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_interp import backbones, data, metrics, models
from keras_interp.checks import check_options
from keras_interp.data.schema import typed
from keras_interp.data.tables import read_csv
from keras_interp.typing import PathLike, Size
from keras_interp.zoo import artifacts
from keras_interp.zoo.entry import Paper, Recipe
from keras_interp.zoo.papers import dynk, fl, lsg
from keras_interp.zoo.training import train

METHODS = {
    "fl": "feature leveling",
    "lsg": "label-sensitive gates",
    "dynk": "Dynamic-K activation",
    "std": "standard training",
}
TABLE_METHODS, PICTURE_METHODS = ("fl", "std"), ("lsg", "dynk", "std")
BACKBONES: Mapping[str, Callable[..., keras.Model]] = {
    "resnet20": backbones.cifar_resnet,
    "resnet18w32": functools.partial(backbones.resnet, depth=18, width=32, stem="small", normalize_output=True),
    "resnet18": functools.partial(backbones.resnet, depth=18, stem="imagenet", normalize_output=True),
    "mobilenet": functools.partial(backbones.mobilenet, alpha=0.75),
}
# Chosen by `reproduction/searches/fit_tables.py` on Adult and California Housing.
TABLE_RECIPE = Recipe(
    epochs=30, optimizer="adam", learning_rate=3e-3, warmup=0.05, batch_size=256, pad=0, flip=False, dtype_policy="float32"
)
PICTURE_RECIPE = Recipe(epochs=30, batch_size=128, learning_rate=0.1, pad=4)
# Shares of a time budget for the model and for the baseline; the rest is for reading, compiling and measuring.
BUDGET_SHARE = 0.35
NOT_A_PAPER = Paper("own", "", "", "", {"accuracy": "accuracy", "auc": "AUC", "rmse": "RMSE"})
REPORT = "report.json"


def fit(
    source: PathLike,
    output: PathLike,
    *,
    target: str | None = None,
    method: str | None = None,
    backbone: str | None = None,
    image_size: Size | None = None,
    epochs: int | None = None,
    time_budget: float | None = None,
    held_out: float = 0.2,
    baseline: bool = True,
    seed: int = 1,
    verbose: Any = 2,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Trains a model on your own pictures or table, and measures it on a held-out part beside a plain network.

    The result is an artifact: `zoo.load(output)` gives the model, which predicts and explains. A call that was stopped goes on
    after its last epoch when it is repeated.

    Args:
        source: a folder of pictures, one subfolder for each class; or a table, a `.csv` or `.parquet` file.
        output: folder to write.
        target: of a table, the name of the column to predict.
        method: of a table "fl" (feature leveling, the default) or "std" (a plain network); of pictures "lsg" (label-sensitive
            gates, the default), "dynk" (Dynamic-K) or "std".
        backbone: of pictures, one of `BACKBONES`; by default "resnet20" up to 40 pixels a side, else "resnet18w32".
        image_size: (height, width) of pictures; by default 64x64.
        epochs: passes through the training part; by default 30.
        time_budget: seconds that all may take; sets the epochs by how long one takes, at most the default number.
        held_out: share that is held out of training and measured, the same of each class.
        baseline: whether to train the plain network, with the same budget, and of a table a gradient-boosted tree.
        seed: seed of the split, initial weights, order and augmentation.
        verbose: as for `model.fit`.
        log: function that takes lines on what is done.

    Returns:
        A dict: `measured`, `baseline` and `boosting` {metric: value}, `seconds`, `epochs`, and what was read.

    Raises:
        FileNotFoundError: for a source that is not there.
        ValueError: for a source, target or method that does not fit; as `data.load_folder` and `data.Table` do.
        ImportError: without scikit-learn, which measures.

    Examples:

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> lines = [f"{age},{'near' if age % 3 else 'far'},{'yes' if age > 40 else 'no'}" for age in range(20, 60)]
    >>> _ = (folder / "people.csv").write_text("age,sea,buys\\n" + "\\n".join(lines))
    >>> report = fit(folder / "people.csv", folder / "model", target="buys", epochs=1, baseline=False, verbose=0)
    >>> report["examples"], sorted(report["measured"])
    ({'training': 32, 'held out': 8}, ['accuracy', 'auc', 'cross_entropy', 'weights'])
    """
    metrics.require_evaluation_extra()
    check_options(locals(), held_out="(0, 1)", epochs="integer [1, inf) or None", time_budget="(0, inf) or None")
    start, source, output = time.time(), pathlib.Path(source), pathlib.Path(output)
    if not source.exists():
        raise FileNotFoundError(f"There is no such folder or file. Received: {source}")
    if source.is_dir():
        training, held = _read_pictures(source, target, image_size, held_out, seed)
        make = functools.partial(_picture_entry, training, backbone)
    else:
        training, held = _read_table(source, target, held_out, seed)
        make = functools.partial(_table_entry, training)
    pictures = source.is_dir()
    known = PICTURE_METHODS if pictures else TABLE_METHODS
    method = method or known[0]
    check_options(locals(), method=known)
    if backbone is not None and not pictures:
        raise ValueError(f"A table has no backbone. Received: backbone={backbone!r}")
    log(
        f"{len(training):,} examples to train on, {len(held):,} held out; "
        + (f"{len(training.class_names)} classes" if training.class_names else "a regression")
        + ("" if pictures else f"; {training.input_shape[0]} columns of numbers")
    )
    names = (method, "std") if baseline and method != "std" else (method,)
    entries = {name: make(name) for name in names}
    options: dict[str, Any] = {"seed": seed, "epochs": _epochs(output, entries[method], training, epochs, time_budget, log)}
    options["batch_size"] = _batch_size(entries[method], training)
    results, report = {}, output / REPORT
    for name in names:
        folder = output if name == method else output / "baseline"
        log(f"Training: {METHODS[name]}, {options['epochs']} epochs")
        model = train(entries[name], dataset=training, output=folder, verbose=verbose, **options)
        results[name] = measure(model, held)
    boosting = _boosted(training, held, seed) if baseline and not pictures else None
    found = {
        "method": method,
        "source": source.name,
        "examples": {"training": len(training), "held out": len(held)},
        "epochs": options["epochs"],
        "seed": seed,
        "measured": results[method],
        "baseline": results.get("std") if method != "std" else None,
        "boosting": boosting,
        "seconds": round(time.time() - start),
    }
    report.write_text(json.dumps(found, indent=1) + "\n")
    model = artifacts.load(output)
    (output / artifacts.METRICS).write_text(json.dumps(_metrics_file(found, held), indent=1) + "\n")
    explanation = model.explain(held.read(slice(0, 4))[0])
    (explanation.by_column() if explanation.column_contributions is not None else explanation).plot(
        path=output / artifacts.EXPLANATION
    )
    (output / artifacts.CARD).write_text(_card(found, model, output.name))
    return found


def measure(model: keras.Model, dataset: Any) -> dict[str, float]:
    """What is measured of a model on a held-out part: accuracy, cross-entropy and, of two classes, AUC; or RMSE and R²."""
    inputs, targets = dataset.read(slice(0, len(dataset)))
    outputs = model.predict(inputs, batch_size=256, verbose=0)
    compact = model.compact() if hasattr(model, "compact") else model
    values = {"weights": int(sum(np.prod(weight.shape) for weight in compact.trainable_variables if weight.name != "bias"))}
    if model.task == "regression":
        error = metrics.root_mean_squared_error(outputs, targets)
        return {"rmse": float(error), "r2": float(1 - error**2 / np.var(targets)), **values}
    values |= {"accuracy": metrics.accuracy(outputs, targets), "cross_entropy": metrics.cross_entropy(outputs, targets)}
    if model.num_classes == 2:
        from sklearn.metrics import roc_auc_score

        values["auc"] = float(roc_auc_score(targets, outputs[:, 1] - outputs[:, 0]))
    return values


def _read_pictures(folder, target, image_size, held_out, seed):
    if target is not None:
        raise ValueError(f"The classes of pictures are their subfolders. Received: target={target!r}")
    return data.load_folder(folder, image_size or (64, 64), validation=held_out, seed=seed)


def _read_table(path, target, held_out, seed):
    if target is None:
        raise ValueError("A table needs the name of the column to predict. Received: target=None")
    if path.suffix.lower() == ".parquet":
        import pandas

        table = pandas.read_parquet(path)
        frame = {name: table[name].to_numpy() for name in table.columns}
    else:
        columns, faults = read_csv(path)
        if faults:
            row, sentence = next(iter(faults.items()))
            raise ValueError(f"{path}: {len(faults)} rows cannot be used. Row {row + 1} {sentence}")
        frame = {str(name): typed(values) for name, values in columns.items()}
    # The schema is that of the training part: the held-out part plays no role in it.
    whole = data.Table.from_frame(frame, target, name=path.name)
    task = "classification" if whole.class_names else "regression"
    kept, rest = data.stratified_split(whole.targets, held_out, seed, whole.class_names)
    parts = [{name: values[part] for name, values in frame.items()} for part in (kept, rest)]
    training = data.Table.from_frame(parts[0], target, task=task, name=f"{path.name}, training part")
    with warnings.catch_warnings():
        # Rare categories may all be held out.
        warnings.simplefilter("ignore", UserWarning)
        held = data.Table.from_frame(parts[1], target, schema=training.schema, name=f"{path.name}, held-out part")
    return training, held


def _table_entry(training, method):
    regression = not training.class_names
    return fl.NetworkEntry(
        name=f"{method}_own",
        description="Trained on a table of one's own.",
        network=method,
        hidden_units=(64, 32),
        dataset=training.name,
        class_names=training.class_names or (training.schema.target,),
        input_shape=training.input_shape,
        task="regression" if regression else "classification",
        options={"l0_weight": 0.1} if method == "fl" else {},
        recipe=TABLE_RECIPE,
        paper=fl.PAPER,
    )


def _picture_entry(training, backbone, method):
    size = max(training.input_shape[:2])
    backbone = backbone or ("resnet20" if size <= 40 else "resnet18w32")
    check_options({"backbone": backbone}, backbone=tuple(BACKBONES))
    kinds = {
        "lsg": (models.LabelSensitiveClassifier, dict(lsg.JOINT)),
        "dynk": (models.DynamicKClassifier, {"k": 5}),
        "std": (models.Classifier, {}),
    }
    model_class, options = kinds[method]
    return dynk.ConnectionEntry(
        name=f"{method}_own",
        description="Trained on pictures of one's own.",
        method=METHODS[method],
        model_class=model_class,
        options=options,
        backbone=BACKBONES[backbone],
        dataset=training.name,
        class_names=training.class_names,
        input_shape=training.input_shape,
        recipe=dataclasses.replace(PICTURE_RECIPE, pad=max(size // 12, 1)),
    )


def _batch_size(entry, training):
    """That of the recipe, or less where an epoch would have fewer than some twenty steps."""
    size = int(np.clip(2 ** int(np.log2(max(len(training) / 20, 1))), 16, entry.recipe.batch_size))
    return min(size, len(training))


def _epochs(output, entry, training, epochs, time_budget, log):
    """How many epochs to train: those asked for, those of the folder's earlier start, or as many as the time allows."""
    if epochs is not None or time_budget is None:
        return epochs or entry.recipe.epochs
    path = output / "epochs.json"
    if path.is_file():
        return int(json.loads(path.read_text())["epochs"])
    batch = _batch_size(entry, training)
    model = entry.build(dataset=training).compile_by_default(entry.recipe.build_optimizer(1))
    batches = data.Batches(training[: batch * min(8, len(training) // batch)], batch)
    model.fit(batches, epochs=1, shuffle=False, verbose=0)
    start = time.time()
    model.fit(batches, epochs=1, shuffle=False, verbose=0)
    seconds = (time.time() - start) * (len(training) // batch) / len(batches)
    epochs = int(np.clip(BUDGET_SHARE * time_budget / seconds, 1, entry.recipe.epochs))
    log(f"An epoch takes about {seconds:.1f} s: {epochs} epochs fit the time")
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"epochs": epochs}))
    return epochs


def _boosted(training, held, seed):
    """The figures of scikit-learn's gradient-boosted trees on the same rows, as the floor of tables."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    if not training.class_names:
        predicted = (
            HistGradientBoostingRegressor(random_state=seed).fit(training.inputs, training.targets).predict(held.inputs)
        )
        error = metrics.root_mean_squared_error(predicted, held.targets)
        return {"rmse": float(error), "r2": float(1 - error**2 / np.var(held.targets))}
    trees = HistGradientBoostingClassifier(random_state=seed).fit(training.inputs, training.targets)
    probabilities = trees.predict_proba(held.inputs)
    values = {"accuracy": float(accuracy_score(held.targets, probabilities.argmax(axis=1)))}
    values["cross_entropy"] = float(log_loss(held.targets, probabilities, labels=range(len(training.class_names))))
    if len(training.class_names) == 2:
        values["auc"] = float(roc_auc_score(held.targets, probabilities[:, 1]))
    return values


DEFINITIONS = {
    "accuracy": "share of examples whose largest logit is the label's",
    "cross_entropy": "mean cross-entropy in nats",
    "auc": "area under the ROC curve of the difference of the two logits",
    "rmse": "root mean squared error in the target's unit",
    "r2": "1 minus the squared error over the variance of the held-out targets",
    "weights": "weights of the network without biases; with closed gates, of what remains",
}


def _metrics_file(found, held):
    """What `metrics.json` of an artifact holds."""
    return {
        "split": held.name or "held-out part",
        "examples": len(held),
        "seed": found["seed"],
        "values": found["measured"],
        "definitions": {metric: DEFINITIONS[metric] for metric in found["measured"]},
    }


def _card(found, model, title):
    columns = {"this model": found["measured"], "plain network": found["baseline"], "gradient boosting": found["boosting"]}
    columns = {name: values for name, values in columns.items() if values}
    rows = [
        [metric, *(f"{values[metric]:.4g}" if metric in values else "" for values in columns.values()), DEFINITIONS[metric]]
        for metric in found["measured"]
    ]
    heads = ["metric", *columns, "what it is"]
    examples = found["examples"]
    return "\n".join(
        [
            f"# {title}",
            "",
            f"A `{type(model).__name__}` ({METHODS[found['method']]}), trained on {found['source']} by `keras-interp fit`.",
            "",
            "```python",
            "from keras_interp import zoo",
            "",
            'model = zoo.load("FOLDER")  # the folder of this card',
            "model.predict(inputs), model.explain(inputs).plot()",
            "```",
            "",
            f"![Explained predictions]({artifacts.EXPLANATION})",
            "",
            f"## Measured on the held-out part ({examples['held out']:,} examples)",
            "",
            *(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)),
            "",
            f"{examples['training']:,} examples to train on, {found['epochs']} epochs, seed {found['seed']}. One run: "
            "differences of the size that another seed makes say nothing.",
            "",
            "## Limits",
            "",
            "An explanation shows how the output comes about, not that the model is right.",
            "",
        ]
    )
