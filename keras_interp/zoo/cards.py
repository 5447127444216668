"""Model cards and the README's table of models, written from the registry and from what was measured."""

import json
import pathlib

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from keras_interp.zoo import artifacts
from keras_interp.zoo.registry import ENTRIES, PAPERS, get_entry

LICENCE = "apache-2.0"


def write_card(name, folder):
    """Writes the model card `README.md` of an artifact.

    Args:
        name: name of the zoo model.
        folder: its artifact, with `metrics.json`.

    Returns:
        The path of the card.
    """
    folder = pathlib.Path(folder)
    entry = get_entry(name)
    metrics = json.loads((folder / artifacts.METRICS).read_text())
    metadata = json.loads((folder / artifacts.METADATA).read_text())
    provenance = metadata["keras_interp"]["provenance"]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=entry.dataset,
            dataset_name=entry.dataset,
            dataset_split="test",
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for metric, value in metrics["values"].items()
    ]
    card_data = ModelCardData(
        license=LICENCE,
        library_name="keras",
        tags=["keras", "keras-interp", "interpretability", "image-classification"],
        datasets=[entry.dataset],
        model_name=name,
        eval_results=results,
    )
    twin = {}
    if entry.twin and artifacts.shipped_folder(entry.twin) is not None:
        twin = json.loads((artifacts.shipped_folder(entry.twin) / artifacts.METRICS).read_text())["values"]
    path = folder / "README.md"
    card = ModelCard(f"---\n{card_data.to_yaml()}\n---\n\n{_body(entry, metrics, twin, metadata, provenance)}")
    card.save(path)
    return path


def _body(entry, metrics, twin, metadata, provenance):
    recipe = provenance["recipe"]
    lines = [
        f"# {entry.name}",
        "",
        entry.description,
        "",
        f"Method: {entry.method}. Paper: *{entry.paper.title}*.",
        "",
        "```python",
        "from keras_interp import zoo",
        "",
        f'model = zoo.load("{entry.name}")',
        "logits = model.predict(images)  # raw pixels, 0..255, (n, "
        + ", ".join(map(str, entry.input_shape))
        + "); model.labels names the outputs",
        "model.explain(images).plot()",
        "```",
        "",
        f"![Explained predictions]({EXPLANATION})",
        "",
        f"## Measured on {metrics['split']} ({metrics['examples']:,} images)",
        "",
        f"| metric | ours | {entry.twin or 'twin'} | paper | what it is |",
        "|---|---|---|---|---|",
        *(
            f"| {metric} | {_figure(value)} | {_figure(twin.get(metric))} | {_figure(entry.paper_metrics.get(metric))} | "
            f"{metrics['definitions'][metric]} |"
            for metric, value in metrics["values"].items()
        ),
        "",
        "Figures of the last epoch. They are those of the weights as stored, written by `keras-interp evaluate`.",
        "",
        "## How it was trained",
        "",
        f"{provenance['training_examples']:,} images of {provenance['dataset']}, {recipe['epochs']} epochs of batches of "
        f"{recipe['batch_size']}, SGD with Nesterov momentum {recipe['momentum']}, coupled weight decay "
        f"{recipe['weight_decay']}, learning rate up to {recipe['learning_rate']} (linear warm-up over "
        f"{recipe['warmup']:.0%} of the steps, cosine decay), "
        f"random crops with {recipe['pad']} pixels of padding" + (" and mirror images" if recipe["flip"] else "") + ", "
        f"`{recipe['dtype_policy']}`, seed {recipe['seed']}. The paper trains for 150 epochs.",
        "",
        *(
            [f"Options of the method: {', '.join(f'`{k}={v!r}`' for k, v in entry.options.items())}.", ""]
            if entry.options
            else []
        ),
        f"{provenance['training_seconds'] / 60:.0f} minutes on {provenance['machine']}, {provenance['replicas']} replica(s), "
        f"{provenance['backend']} backend, Keras {provenance['keras']}. Retrain it with `keras-interp train {entry.name} "
        "--data-dir DIR`.",
        "",
        f"Weights: {provenance['parameters']:,} trainable parameters, stored as {provenance['storage_dtype']}; saved "
        f"{metadata['date_saved'][:10]}.",
        "",
        "## Limits",
        "",
        "A research model for 32x32 images of ten classes; not for decisions about people. An explanation shows how the logit "
        "comes about, not that the model is right.",
        "",
        "## Licence",
        "",
        "Code and weights: Apache-2.0. CIFAR-10 is by Alex Krizhevsky (Learning Multiple Layers of Features from Tiny Images, "
        "2009); the images in the golden file and in the picture are taken from it.",
        "",
    ]
    return "\n".join(lines)


EXPLANATION = "explanation.png"


def _figure(value):
    return "" if value is None else f"{value:.4f}"


def model_table(paper):
    """The README's table of the models of a paper that ship, as Markdown; empty without any."""
    lines = []
    for name, entry in ENTRIES.items():
        folder = artifacts.shipped_folder(name)
        if entry.paper != paper or folder is None or not (folder / artifacts.METRICS).is_file():
            continue
        values = json.loads((folder / artifacts.METRICS).read_text())["values"]
        provenance = json.loads((folder / artifacts.METADATA).read_text())["keras_interp"]["provenance"]
        figures = [_figure(values.get(metric)) + _beside(entry.paper_metrics.get(metric)) for metric in paper.headline]
        cells = [f"[`{name}`](zoo/{name}/README.md)", f"{provenance['parameters']:,}", str(provenance["recipe"]["epochs"])]
        lines.append(f"| {' | '.join([*cells, *figures])} |")
    heads = ["model", "parameters", "epochs", *paper.headline.values()]
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines]) if lines else ""


def _beside(value):
    return "" if value is None else f" ({_figure(value)})"


def update_readme(path):
    """Replaces the tables between the markers of a README by `model_table`."""
    path = pathlib.Path(path)
    start, end = "<!-- models: written by keras_interp.zoo.release -->", "<!-- end of models -->"
    before, rest = path.read_text().split(start)
    _, after = rest.split(end)
    tables = [f"*{paper.title}*\n\n{model_table(paper)}" for paper in PAPERS.values() if model_table(paper)]
    path.write_text("\n\n".join([before + start, *tables, end + after]))
