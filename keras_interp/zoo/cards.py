"""Model cards and the README's table of models, written from the registry and from what was measured."""

import json
import pathlib
import statistics

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
    task = f"{'image' if len(entry.input_shape) == 3 else 'tabular'}-{entry.task}"
    results = [
        EvalResult(
            task_type=task,
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
        tags=["keras", "keras-interp", "interpretability", task],
        datasets=[entry.dataset],
        model_name=name,
        eval_results=results,
    )
    twin = ((entry.twin and artifacts.read_metrics(entry.twin)) or {"values": {}})["values"]
    path = folder / "README.md"
    card = ModelCard(f"---\n{card_data.to_yaml()}\n---\n\n{_body(entry, metrics, twin, metadata, provenance)}")
    card.save(path)
    return path


def _body(entry, metrics, twin, metadata, provenance):
    spread = metrics.get("seeds")
    heads = [
        "metric",
        "ours",
        *(["all seeds"] if spread else []),
        *([entry.twin] if entry.twin else []),
        "paper",
        "what it is",
    ]
    rows = []
    for metric, value in metrics["values"].items():
        cells = [metric, _figure(value)]
        cells += [_spread(spread["values"][metric])] if spread else []
        cells += [_figure(twin.get(metric))] if entry.twin else []
        rows.append([*cells, _figure(entry.paper_metrics.get(metric)), metrics["definitions"][metric]])
    shape = ", ".join(map(str, entry.input_shape))
    inputs = f"raw pixels, 0..255, (n, {shape})" if len(entry.input_shape) == 3 else f"raw rows, (n, {shape})"
    variable = "images" if len(entry.input_shape) == 3 else "rows"
    seeds = f" The column of all seeds has mean and standard deviation over the seeds {spread['seeds']}." if spread else ""
    options = {**entry.options, **provenance.get("options", {})}
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
        f"outputs = model.predict({variable})  # {inputs}; model.labels names the outputs",
        f"model.explain({variable}).plot()",
        "```",
        "",
        *([f"![Explained predictions]({EXPLANATION})", ""] if entry.shows_examples else []),
        f"## Measured on {metrics['split']} ({metrics['examples']:,} examples)",
        "",
        *(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)),
        "",
        f"Figures of the last epoch. They are those of the weights as stored, written by `keras-interp evaluate`.{seeds}",
        "",
        *([remark, ""] if (remark := entry.remark(metrics["values"], twin)) else []),
        "## How it was trained",
        "",
        _training(provenance),
        entry.paper.training,
        "",
        *([f"Options of the method: {', '.join(f'`{k}={v!r}`' for k, v in options.items())}.", ""] if options else []),
        f"{provenance['training_seconds'] / 60:.0f} minutes on {provenance['machine']}, {provenance['replicas']} replica(s), "
        f"{provenance['backend']} backend, Keras {provenance['keras']}. Retrain it with `keras-interp train {entry.name} "
        "--data-dir DIR`.",
        "",
        f"Weights: {provenance['parameters']:,} trainable parameters, stored as {provenance['storage_dtype']}; saved "
        f"{metadata['date_saved'][:10]}.",
        "",
        "## Limits",
        "",
        "A research model of a small data set; not for decisions about people. An explanation shows how the output comes "
        "about, not that the model is right.",
        "",
        "## Licence",
        "",
        f"Code and weights: Apache-2.0. {CREDITS[entry.dataset]}",
        "",
    ]
    return "\n".join(lines)


def _training(provenance):
    recipe = provenance["recipe"]
    if recipe.get("optimizer", "sgd") == "sgd":
        momentum = f"{'Nesterov ' if recipe.get('nesterov', True) else ''}momentum {recipe['momentum']}"
        optimizer = f"SGD with {momentum}, coupled weight decay {recipe['weight_decay']}"
    else:
        optimizer = "Adam"
    schedule = f"linear warm-up over {recipe['warmup']:.0%} of the steps, cosine decay"
    if recipe.get("schedule") == "steps":
        schedule = "divided by 10 after each quarter"
    steps = provenance["training_examples"] // recipe["batch_size"] * recipe["epochs"]
    crops = [f"random crops with {recipe['pad']} pixels of padding"] if recipe["pad"] else []
    changes = " and ".join([*crops, *(["mirror images"] if recipe["flip"] else [])]) or "no augmentation"
    balanced = ""
    if recipe.get("min_positives"):
        balanced = f", at least {recipe['min_positives']} examples of each attribute in a batch"
    return (
        f"{provenance['training_examples']:,} examples of {provenance['dataset']}, {recipe['epochs']} epochs of batches of "
        f"{recipe['batch_size']}, {steps:,} steps, {optimizer}, learning rate up to {recipe['learning_rate']} ({schedule}), "
        f"{changes}{balanced}, `{recipe['dtype_policy']}`, seed {recipe['seed']}."
    )


EXPLANATION = "explanation.png"

CELEB_A = (
    "CelebA is by Ziwei Liu, Ping Luo, Xiaogang Wang and Xiaoou Tang (Deep Learning Face Attributes in the "
    "Wild, 2015), for non-commercial research only; none of its images comes with the weights. The labels are what annotators "
    "saw in pictures of celebrities, and not what people are."
)
BIRDS = (
    "CUB-200-2011 is by Catherine Wah, Steve Branson, Peter Welinder, Pietro Perona and Serge Belongie (The Caltech-UCSD "
    "Birds-200-2011 Dataset, 2011), for non-commercial research; a few of its images are in the golden file and the picture. "
    "The classifier started from ImageNet weights of `keras.applications` (Apache-2.0)."
)
# Where each data set comes from.
CREDITS = {
    "cifar10": "CIFAR-10 is by Alex Krizhevsky (Learning Multiple Layers of Features from Tiny Images, 2009); the images in "
    "the golden file and in the picture are taken from it.",
    "mnist": "MNIST is by Yann LeCun, Corinna Cortes and Christopher Burges; the images in the golden file and in the picture "
    "are taken from it.",
    "california_housing_ocean": "California Housing is by Kelley Pace and Ronald Barry (Sparse Spatial Autoregressions, "
    "1997), with the column `ocean_proximity` that Aurélien Géron added; a few rows are in the golden file and the picture.",
    "places_mini": "Places is by Bolei Zhou, Agata Lapedriza, Aditya Khosla, Aude Oliva and Antonio Torralba (Places: A 10 "
    "Million Image Database for Scene Recognition, 2017); a few of its images are in the golden file and the picture.",
    "places365_small": "Places is by Bolei Zhou, Agata Lapedriza, Aditya Khosla, Aude Oliva and Antonio Torralba (Places: A "
    "10 Million Image Database for Scene Recognition, 2017); a few of its images are in the golden file and the picture.",
    "caltech_birds2011_mini": BIRDS,
    "caltech_birds2011_parts": BIRDS,
    "celeb_a_mini": CELEB_A,
    "celeb_a": CELEB_A,
    "independent_xor": "The data are generated as the paper defines them.",
}


def _figure(value):
    if value is None:
        return ""
    whole = isinstance(value, int) or (value == round(value) and abs(value) > 1)
    return f"{value:,.0f}" if whole else f"{value:.4f}"


def _spread(values):
    digits = 1 if all(isinstance(value, int) for value in values) else 4
    return f"{statistics.fmean(values):,.{digits}f} ± {statistics.stdev(values):,.{digits}f}"


def model_table(paper):
    """The README's table of the models of a paper that ship, as Markdown; empty without any."""
    lines = []
    for name, entry in ENTRIES.items():
        measured = artifacts.read_metrics(name) if entry.paper == paper else None
        if measured is None:
            continue
        folder, values = artifacts.shipped_root() / name, measured["values"]
        provenance = json.loads((folder / artifacts.METADATA).read_text())["keras_interp"]["provenance"]
        figures = [_figure(values.get(metric)) + _beside(entry.paper_metrics.get(metric)) for metric in paper.headline]
        link = f"[`{name}`](zoo/{name}/README.md)" if artifacts.shipped_folder(name) else f"`{name}` (no weights)"
        parameters = int(values.get("parameters", provenance["parameters"]))
        cells = [link, f"{parameters:,}", str(provenance["recipe"]["epochs"])]
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
