"""The `keras-interp` command: the zoo's verbs on the command line."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from keras_interp import __version__

if TYPE_CHECKING:
    import numpy as np

    from keras_interp.explain.explanation import Explanation
    from keras_interp.typing import PathLike

# Inputs per picture of `explain`, and files or rows processed at a time.
PICTURE_ROWS = 12
FILE_BATCH = 256


class _Command(click.Command):
    """A command that needs Keras, imported without its backend's log output."""

    def invoke(self, context: click.Context) -> Any:
        import_keras()
        return super().invoke(context)


class _Group(click.Group):
    """Shows errors on bad input as one line, without a traceback."""

    command_class = _Command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (KeyError, ValueError, TypeError, OSError, ImportError, FloatingPointError, NotImplementedError) as error:
            # A KeyError prints its message in quotes.
            raise click.ClickException(str(error.args[0] if isinstance(error, KeyError) else error)) from error


def import_keras() -> None:
    """Imports Keras and initializes its backend; its standard error is captured, and shown only on failure."""
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    # Libraries in C++ write past Python's own stream.
    kept = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            import keras

            keras.ops.convert_to_numpy(keras.ops.zeros(1))
        except BaseException:
            chatter.seek(0)
            os.write(kept, chatter.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Keras networks that are interpretable by training, and a zoo of trained models."""


data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=pathlib.Path), help="Folder of the prepared datasets; by default TFDS_DATA_DIR."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command("list", cls=click.Command)
@click.argument("pattern", default="*")
@click.option("--trained", is_flag=True, help="Only models with weights.")
@click.option("--comparisons", is_flag=True, help="Also the rows of the papers' comparisons: other methods, starts, depths.")
@click.option("--hub", metavar="USER", help="List USER's models on the Hugging Face Hub.")
@json_option
def list_command(pattern: str, trained: bool, comparisons: bool, hub: str | None, as_json: bool) -> None:
    """List the models whose name matches PATTERN, as in "lsg_*"; those with weights first."""
    from keras_interp.zoo import listing

    if hub:
        import_keras()
        from keras_interp.zoo.hub import models_of

        rows = []
        for model in models_of(hub, pattern):
            card = model.card_data or {}
            # Hand-written cards have one text, or a list.
            entries = [card.get(key) or "" for key in ("license", "datasets")]
            license, dataset = [one if isinstance(one, str) else ", ".join(map(str, one)) for one in entries]
            updated = f"{model.last_modified:%Y-%m-%d}" if model.last_modified else ""
            rows.append({"name": f"hf://{model.id}", "license": license, "dataset": dataset, "updated": updated})
            rows[-1]["private"] = "yes" if model.private else "no"
    else:
        index, rows = listing.index(), []
        for name in listing.select(
            {name: facts["comparison"] for name, facts in index.items()}, pattern, True if trained else None, comparisons
        ):
            info = listing.describe(name, index[name])
            known = {**info["paper_metrics"], **info["metrics"]}
            metric = next((metric for metric in ("auc", "rmse", "accuracy") if metric in known), "")
            weights = "yes" if info["trained"] else "no"
            row = {"name": name, "method": info["method"], "dataset": info["dataset"], "weights": weights, "metric": metric}
            rows.append({**row, "ours": info["metrics"].get(metric), "paper": info["paper_metrics"].get(metric)})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Column, Table

    header = list(rows[0]) if rows else ["name"]
    table = Table(Column(header[0], no_wrap=True), *header[1:])
    for row in rows:
        cells = (f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value) for value in row.values())
        table.add_row(*cells)
    # A file or a pipe has no width: the table keeps its own.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@main.command(cls=click.Command)
@click.argument("name")
def info(name: str) -> None:
    """Print the facts about a model as JSON."""
    from keras_interp.zoo import listing

    index = listing.index()
    if name not in index:
        raise listing.unknown(name, index)
    click.echo(json.dumps(listing.describe(name, index[name]), indent=1))


files_argument = click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=pathlib.Path))


@main.command()
@click.argument("name")
@files_argument
@click.option("--top", default=3, type=click.IntRange(min=1), help="Number of classes to print.")
@json_option
def predict(name: str, files: Sequence[pathlib.Path], top: int, as_json: bool) -> None:
    """Predict for FILES, images or CSV tables, with the model NAME (or a folder).

    A table's columns are found by the names in its header. Exits with 1 if a file or a row could not be used.
    """
    from keras_interp import zoo

    model = zoo.load(name)
    faults, records = {}, []
    for names, inputs in read_inputs(files, model, faults):
        logits = model.predict(inputs, verbose=0)
        if as_json:
            records += predictions(model, names, logits, top)
        else:
            print_predictions(model, names, logits, top)
    if as_json:
        click.echo(json.dumps(records, indent=1))
    report_faults(faults)


@main.command()
@click.argument("name")
@files_argument
@click.option("--target", help="Name or index of the class to explain; defaults to the predicted class.")
@click.option(
    "--output",
    default="explanation.png",
    type=click.Path(),
    show_default=True,
    help="Picture to write, or a folder.",
)
@click.option("--all", "draw_all", is_flag=True, help=f"Draw all inputs, {PICTURE_ROWS} in a picture, in numbered files.")
@json_option
def explain(
    name: str, files: Sequence[pathlib.Path], target: str | None, output: PathLike, draw_all: bool, as_json: bool
) -> None:
    """Explain the predictions of the model NAME for FILES, images or CSV tables, in a picture.

    Predictions are printed first. The picture shows the first 12 inputs. Exits with 1 if a file or a row could not be used.
    """
    import numpy as np

    from keras_interp import zoo

    output = picture_path(output)
    model = zoo.load(name)
    if target is not None and hasattr(model, "targets"):
        # An explanation module explains only some classes; check before reading any input.
        known = (*model.targets, *map(str, model.target_indices))
        if target not in known:
            raise ValueError(f"The explained classes are {', '.join(model.targets)}. Received: {target!r}")
    if not hasattr(model, "explain"):
        raise ValueError(f"A plain Keras model has predictions but no explanations. Received: {name}")
    explained = int(target) if target is not None and target not in model.class_names and target.isdecimal() else target
    model.explained_outputs(explained, np.zeros((1, model.num_outputs), "float32"))
    faults, shown, pieces = {}, [], []
    for names, inputs in read_inputs(files, model, faults):
        logits = model.predict(inputs, verbose=0)
        if not as_json:
            print_predictions(model, names, logits, 1)
        room = len(names) if draw_all else max(PICTURE_ROWS - len(shown), 0)
        shown += zip(names[:room], logits[:room])
        pieces.append(inputs[:room])
    if shown:
        draw_explanations(model, shown, np.concatenate(pieces), explained, output, as_json)
    elif as_json:
        click.echo("[]")
    report_faults(faults)


def draw_explanations(
    model: Any, shown: Sequence[tuple], inputs: Any, target: str | int | None, output: pathlib.Path, as_json: bool = False
) -> None:
    """Writes the pictures, with a progress bar for several, and notes each input whose drawn class differs."""
    from rich.console import Console
    from rich.progress import Progress

    starts = range(0, len(inputs), PICTURE_ROWS)
    width = len(str(len(starts)))
    paths = [output.with_stem(f"{output.stem}_{number:0{width}}") for number in range(1, len(starts) + 1)]
    paths = paths if len(paths) > 1 else [output]
    output.parent.mkdir(parents=True, exist_ok=True)
    written, records = [], []
    try:
        with Progress(console=Console(stderr=True), disable=len(paths) == 1, transient=True) as bar:
            for start, path in zip(bar.track(starts, description="Drawing"), paths):
                part = slice(start, start + PICTURE_ROWS)
                explanation = model.explain(inputs[part], target)
                if explanation.column_values is not None:  # People know a table by its columns.
                    explanation = explanation.by_column()
                for row, (name, logits) in enumerate(shown[part]):
                    if as_json:
                        records.append(explained_record(model, name, logits, explanation, row, path))
                    else:
                        print_target(model, name, logits, int(explanation.target[row]), target)
                # Atomic, so that an interruption leaves no partial picture.
                partial = path.with_name(f".partial_{path.name}")
                try:
                    explanation.plot(path=partial)
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
                written.append(path)
    except KeyboardInterrupt:
        click.echo(f"Stopped. Wrote {len(written)} of {len(paths)} pictures.", err=True)
        raise click.exceptions.Exit(130) from None
    if as_json:
        click.echo(json.dumps(records, indent=1))
        return
    click.echo(f"Wrote {written[0]}" + (f" to {written[-1].name}" if len(written) > 1 else ""))


def explained_record(
    model: Any, name: str, logits: np.ndarray, explanation: Explanation, row: int, path: PathLike
) -> dict[str, Any]:
    """Facts about one explained input, for JSON: its prediction, and each unit's contribution to the target's logit."""
    (record,) = predictions(model, [name], logits[None], 1)
    values = explanation.contributions[row]
    return {
        **record,
        "target": model.class_names[int(explanation.target[row])],
        "bias": float(explanation.bias[row]),
        "contributions": {unit: float(value) for unit, value in zip(explanation.names_of(row), values) if value},
        "picture": str(path),
    }


def print_target(model: Any, name: str, logits: np.ndarray, explained: int, target: str | int | None) -> None:
    """Note on the drawn class, if it was requested or is not the predicted one."""
    if len(model.class_names) == 1:
        return
    predicted = int(logits.argmax())
    label = f"{model.class_names[explained]} ({probabilities_of(model, logits)[explained]:.1%})"
    if target is not None:
        click.echo(f"{name}: explained is {label}")
    elif explained != predicted:
        click.echo(
            f"{name}: {model.class_names[predicted]} is not among the explained classes; "
            f"drawn is {label}, the likeliest of them"
        )


@main.command()
@click.option("--output", default="demo_output", type=click.Path(path_type=pathlib.Path), show_default=True)
def demo(output: pathlib.Path) -> None:
    """Classify and explain the images that come with the package."""
    from keras_interp import zoo

    paths = sorted((pathlib.Path(__file__).parent / "assets").glob("*.png"))
    model = zoo.load("lsg_resnet20_cifar10")
    ((names, images),) = read_inputs(paths, model, {})
    explanation = model.explain(images)
    print_predictions(model, names, explanation.logits, 3)
    output.mkdir(parents=True, exist_ok=True)
    explanation.plot(path=output / "explanation.png")
    click.echo(f"Wrote {output / 'explanation.png'}: red bars are the filters that the gate gives to the class.")


class _Duration(click.ParamType):
    """Seconds, as "90", "90s", "10m" or "1h"."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        number, unit = (value[:-1], value[-1]) if value[-1:] in "smh" else (value, "s")
        try:
            return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
        except ValueError:
            self.fail(f"{value!r} is not a time: give seconds, or 90s, 10m, 1h", param, ctx)


@main.command()
@click.argument("source", type=click.Path(path_type=pathlib.Path))
@click.option("--output", required=True, type=click.Path(path_type=pathlib.Path), help="Folder to write.")
@click.option("--target", help="For a table: the column to predict.")
@click.option("--method", help="For a table fl or std; for pictures lsg, dynk or std.")
@click.option("--backbone", help="For pictures: resnet20, resnet18w32, resnet18 or mobilenet.")
@click.option("--image-size", type=int, help="For pictures: pixels per side; by default 64.")
@click.option("--epochs", type=int, help="Passes through the training part; by default 30.")
@click.option("--time-budget", type=_Duration(), help="Time for everything, as 90s, 10m or 1h.")
@click.option("--held-out", default=0.2, show_default=True, help="Share held out for measuring.")
@click.option("--baseline/--no-baseline", default=True, help="Train the plain network too, for comparison.")
@click.option("--seed", default=1, show_default=True, help="Seed for the split, weights and order.")
@json_option
def fit(source: pathlib.Path, output: pathlib.Path, image_size: int | None, as_json: bool, **options: Any) -> None:
    """Train a model on SOURCE, a folder with a subfolder of pictures for each class, or a .csv or .parquet table."""
    from rich.console import Console
    from rich.table import Table

    from keras_interp import zoo

    size = None if image_size is None else (image_size, image_size)
    verbose = 0 if as_json else 1 if sys.stderr.isatty() else 2
    try:
        found = zoo.fit(
            source,
            output,
            image_size=size,
            verbose=verbose,
            log=lambda line: click.echo(line, err=as_json),
            **options,
        )
    except KeyboardInterrupt:
        click.echo("Stopped. Run the same command to continue after the last complete epoch.", err=True)
        raise click.exceptions.Exit(130) from None
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    headings = {"this model": "measured", "plain network": "baseline", "gradient boosting": "boosting"}
    columns = {heading: found[key] for heading, key in headings.items() if found[key]}
    table = Table("held out", *columns)
    for metric in found["measured"]:
        table.add_row(metric, *(f"{values[metric]:.4g}" if metric in values else "" for values in columns.values()))
    Console().print(table)
    click.echo(f"{found['seconds']} s. Wrote {output}; next: keras-interp explain {output} FILE")


@main.command()
@click.argument("dataset")
@data_dir_option
@click.option("--manual-dir", type=click.Path(exists=True, path_type=pathlib.Path), help="Folder with manually placed files.")
@click.option("--random-access", is_flag=True, help="For a dataset larger than memory, read on demand.")
def prepare(dataset: str, data_dir: pathlib.Path | None, manual_dir: pathlib.Path | None, random_access: bool) -> None:
    """Download and prepare the dataset DATASET."""
    from keras_interp import data

    data.prepare(dataset, data_dir, manual_dir, random_access)


@main.command()
@click.argument("name")
@data_dir_option
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="Folder to write; by default runs/NAME.")
@click.option("--epochs", type=int, help="Epochs, instead of the recipe's.")
@click.option("--batch-size", type=int, help="Batch size, instead of the recipe's.")
@click.option("--seed", type=int, help="Seed, instead of the recipe's.")
@click.option("--dtype-policy", help="Keras dtype policy, instead of the recipe's.")
@click.option("--validation", default=0.0, help="Share of the training data to hold out and measure.")
@click.option("--strategy", type=click.Choice(["mirrored"]), help="Spread each batch over the local GPUs (TensorFlow).")
@click.option("--coordinator", metavar="HOST:PORT", help="Address of process 0, for several machines (JAX).")
@click.option("--num-processes", default=1, help="Number of processes, with --coordinator.")
@click.option("--process-id", default=0, help="Index of this process, with --coordinator.")
@click.option("--data", "npz", type=click.Path(exists=True, path_type=pathlib.Path), help="Train on this .npz file instead.")
@click.option("--progress/--no-progress", default=True, help="Show a bar for each epoch, or one line.")
def train(
    name: str,
    data_dir: pathlib.Path | None,
    output: pathlib.Path | None,
    npz: pathlib.Path | None,
    progress: bool,
    **options: Any,
) -> None:
    """Train the model NAME by its recipe. Run the same command again to resume."""
    from keras_interp import data, zoo
    from keras_interp.zoo.registry import get_entry

    recipe_fields = ("epochs", "batch_size", "seed", "dtype_policy")
    overrides = {field: options.pop(field) for field in recipe_fields}
    options |= {field: value for field, value in overrides.items() if value is not None}
    dataset = data.load_npz(npz, get_entry(name).task) if npz else None
    zoo.train(name, data_dir, output, dataset=dataset, verbose=1 if progress else 2, **options)
    click.echo(f"Wrote {output or pathlib.Path('runs') / name}")


@main.command()
@click.argument("name")
@data_dir_option
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="File to write the figures to, as JSON.")
@click.option("--data", "npz", type=click.Path(exists=True, path_type=pathlib.Path), help="Measure on this .npz file instead.")
def evaluate(name: str, data_dir: pathlib.Path | None, output: pathlib.Path | None, npz: pathlib.Path | None) -> None:
    """Measure the model NAME (or a folder) on the test split of its dataset."""
    from keras_interp import zoo

    metrics = zoo.evaluate(name, data_dir, npz)
    text = json.dumps(metrics, indent=1)
    if output:
        output.write_text(text + "\n")
    click.echo(text)


@main.command()
@click.argument("source")
@click.argument("repository", metavar="USER/REPO")
@click.option("--private/--public", default=None, help="Whether a new repository is private.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of a commit.")
@click.option("--revision", help="Branch to commit to; by default the main one.")
@click.option("--tag", help="Tag of the commit; by default the version of keras-interp that saved the model.")
@click.option("--license", help="License of the weights, as in mit; needed for models from outside the zoo.")
def publish(source: str, repository: str, **options: Any) -> None:
    """Publish SOURCE, a folder or the name of a zoo model, on the Hugging Face Hub, after checking it."""
    from keras_interp import zoo

    published = zoo.publish(source, repository, **options)
    click.echo(f"Published {published.url}" + (f", tagged {published.tag}" if published.tag else ""))
    click.echo(f'Pin it: zoo.load("{published.reference}")')


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--output", default="zoo_mirror", type=click.Path(path_type=pathlib.Path), show_default=True)
def download(names: Sequence[str], output: pathlib.Path) -> None:
    """Copy the models NAMES, of the zoo or hf://user/repo, into a folder, to work without a network."""
    from keras_interp import zoo

    for folder in zoo.download(names, output):
        click.echo(f"Wrote {folder}")
    click.echo(f"Load them by name with KERAS_INTERP_ZOO={output.absolute()}, or by their folders.")


@main.command()
@click.argument("paper")
@data_dir_option
@click.option("--output", default="reproduce_output", type=click.Path(path_type=pathlib.Path), show_default=True)
@click.option("--full-attacks", is_flag=True, help="For lsg: attack with the published budget; takes hours without a GPU.")
def reproduce(paper: str, data_dir: pathlib.Path | None, output: pathlib.Path, full_attacks: bool) -> None:
    """Regenerate the tables and figures of PAPER (dynk, fl, lsg, srae or xnet) from the shipped models, next to the
    paper's."""
    import sys

    from keras_interp.zoo import listing

    if listing.checkout() is None:
        raise ValueError("Tables and figures of the papers are made in a checkout of the repository; none was found.")
    # Of this checkout, whatever else is called so.
    sys.path.insert(0, str(listing.checkout()))
    import reproduction

    for path in reproduction.reproduce(paper, data_dir, output, full_attacks):  # pyright: ignore[reportArgumentType]
        click.echo(f"Wrote {path}")


@main.command()
@click.argument("name")
@data_dir_option
@click.option("--split", default="test", show_default=True, help="Split of the dataset to show.")
@click.option("--data", "npz", type=click.Path(exists=True, path_type=pathlib.Path), help="Show this .npz file instead.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. Anyone who can reach it can vote.")
@click.option("--port", type=int, help="Port; by default the first free one from 7860.")
@click.option(
    "--notes",
    type=click.Path(path_type=pathlib.Path),
    help="File of names and votes; by default next to a local model.",
)
@click.option("--browser/--no-browser", default=True, help="Open the page in the browser.")
def view(
    name: str,
    data_dir: pathlib.Path | None,
    split: str,
    npz: pathlib.Path | None,
    host: str,
    port: int | None,
    notes: pathlib.Path | None,
    browser: bool,
) -> None:
    """Show the x-features of the explanation module NAME (or a folder) on a local web page, to name them and vote on them."""
    from keras_interp import data, viewer, zoo
    from keras_interp.explain import ConceptNotes
    from keras_interp.zoo.hub import is_reference
    from keras_interp.zoo.registry import ENTRIES
    from keras_interp.zoo.store import find_folder, find_local

    viewer.require_gradio()
    model = viewer.check_model(zoo.load(name))
    # Other programs share the Hub's cache.
    downloaded = is_reference(name) or (name in ENTRIES and find_local(name) is None)
    kept = ConceptNotes(notes or (pathlib.Path("concepts.json") if downloaded else find_folder(name)))
    if not kept.writable:
        raise PermissionError(f"Names and votes cannot be kept there; give another file with --notes. Received: {kept.path}")
    entry = ENTRIES.get(model.name)
    if npz is not None:
        dataset = data.load_npz(npz, "classification")
    elif entry is not None:
        dataset = entry.load_data(split, data_dir)
    else:
        raise ValueError(f"A model outside the zoo has no dataset: give images with --data FILE.npz. Received: {model.name!r}")
    part_names = entry.part_names if entry else ()
    click.echo(f"Names, votes and answers are kept in {kept.path}")
    viewer.serve(viewer.build(model, dataset.inputs, dataset.targets, part_names, kept), host, port, browser)


def read_inputs(paths: Sequence[pathlib.Path], model: Any, faults: dict[str, str]) -> Iterator[tuple]:
    """Reads inputs from files in chunks, in the form that a model takes.

    Args:
        paths: paths of images, or of CSV tables for a model of rows.
        model: the model.
        faults: dict to which {unusable input: reason} is added.

    Yields:
        Names (n,) and an array (n, ...).
    """
    from keras_interp.data.pictures import load_pictures
    from keras_interp.data.tables import read_rows

    shape = model.input_shape
    # The file name, unless it is ambiguous.
    short = len({path.name for path in paths}) == len(paths)
    spoken = {path: path.name if short else str(path) for path in paths}
    if len(shape) == 2:
        for path in paths:
            try:
                schema = getattr(model, "schema", None)
                if schema is None:
                    table = read_rows(path, getattr(model, "column_names", ()), shape[1])
                else:
                    table = schema.read_csv(path)
            except (ValueError, OSError) as error:
                faults[str(path)] = str(error)
                continue
            if table.unused:
                click.echo(
                    f"{spoken[path]}: columns that the model does not know are ignored: {', '.join(table.unused)}", err=True
                )
            for column, counts in table.unknown.items():
                listed = ", ".join(f"{category!r} ({count})" for category, count in counts.items())
                click.echo(
                    f"{spoken[path]}: {column!r} has categories that were rare or absent in training: {listed}", err=True
                )
            faults.update({f"{spoken[path]} row {row + 1}": sentence for row, sentence in sorted(table.faults.items())})
            kept = [row for row in range(len(table.rows)) if row not in table.faults]
            for start in range(0, len(kept), FILE_BATCH):
                part = kept[start : start + FILE_BATCH]
                yield [f"{spoken[path]} row {row + 1}" for row in part], table.rows[part]
        return
    for start in range(0, len(paths), FILE_BATCH):
        pixels, names, wrong = load_pictures(paths[start : start + FILE_BATCH], shape[1:3], shape[-1])
        faults.update({str(path): message for path, message in wrong.items()})
        if names:
            yield [spoken[path] for path in names], pixels


def report_faults(faults: Mapping[str, str]) -> None:
    """Prints the inputs that could not be used, and exits with 1 if there are any."""
    for name, sentence in faults.items():
        click.echo(f"Not used: {sentence if name in sentence else f'{name}: {sentence}'}", err=True)
    if faults:
        click.echo(f"{len(faults)} of the inputs could not be used.", err=True)
        raise click.exceptions.Exit(1)


def picture_path(output: PathLike) -> pathlib.Path:
    """Path of a picture, with an ending that matplotlib supports."""
    from matplotlib.figure import Figure

    names_folder = str(output).endswith(("/", "\\"))
    output = pathlib.Path(output)
    if names_folder or output.is_dir():
        return output / "explanation.png"
    endings = Figure().canvas.get_supported_filetypes()
    if not output.suffix:
        return output.with_suffix(".png")
    if output.suffix[1:].lower() not in endings:
        raise ValueError(f"--output must end in one of {', '.join(sorted(endings))}. Received: {output}")
    return output


def probabilities_of(model: Any, logits: np.ndarray) -> np.ndarray:
    """Probabilities of a model's logits (..., classes)."""
    import numpy as np

    if getattr(model, "task", "") == "multilabel":
        return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def predictions(model: Any, names: Sequence[str], logits: np.ndarray, count: int) -> list[dict[str, Any]]:
    """Likeliest classes with their probabilities, or the predicted value, of each input, as dicts."""
    class_names = getattr(model, "class_names", None) or tuple(map(str, range(logits.shape[-1])))
    records = []
    for name, values, probabilities in zip(names, logits, probabilities_of(model, logits)):
        if len(class_names) == 1:
            records.append({"input": name, "output": class_names[0], "value": float(values[0])})
            continue
        top = {class_names[index]: float(probabilities[index]) for index in probabilities.argsort()[::-1][:count]}
        records.append({"input": name, "prediction": next(iter(top)), "probabilities": top})
    return records


def print_predictions(model: Any, names: Sequence[str], logits: np.ndarray, count: int) -> None:
    """Prints `predictions` as text."""
    for record in predictions(model, names, logits, count):
        if "value" in record:
            click.echo(f"{record['input']}: {record['output']} {record['value']:.4g}")
        else:
            classes = ", ".join(f"{label} {probability:.1%}" for label, probability in record["probabilities"].items())
            click.echo(f"{record['input']}: {classes}")
