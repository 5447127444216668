"""Model cards and the README's table of models, written from the registry and the measured figures."""

import json
import pathlib
import re
import statistics

import huggingface_hub  # Names are looked up on use: most of it is slow to import.
import keras

from keras_interp import data
from keras_interp.models.base import InterpretableModel
from keras_interp.typing import PathLike
from keras_interp.zoo import artifacts
from keras_interp.zoo.entry import Recipe
from keras_interp.zoo.registry import ENTRIES

LICENSE = "apache-2.0"
# The tag by which models of this package are found on the Hub.
TAG = "keras-interp"
# Headings of generated sections; all others are the author's own. "Licence" is the heading of older cards.
SECTIONS = r"Measured on .* \([\d,]+ examples\)|How it was trained|Limits|Licen[cs]e|Citation"


def write_card(
    folder: PathLike,
    repo_id: str | None = None,
    license: str | None = None,
    existing: str | None = None,
    model: keras.Model | None = None,
) -> pathlib.Path:
    """Writes the model card `README.md` of an artifact.

    Sections of an older card, in the folder or in `existing`, are kept unless their headings match `SECTIONS`.

    Args:
        folder: an artifact, with `metrics.json` if the model was measured.
        repo_id: "user/repo" on the Hub that the card is for; None for the zoo.
        license: the Hub's name of the weights' license; defaults to that of the zoo, or of the older card.
        existing: text of the existing card, or None.
        model: the loaded model; required for a model from outside the zoo.

    Returns:
        The path of the card.

    Raises:
        ValueError: for a model from outside the zoo without a license.
    """
    folder = pathlib.Path(folder)
    path = folder / artifacts.CARD
    older = [huggingface_hub.ModelCard(text) for text in (existing, path.read_text() if path.is_file() else None) if text]
    metadata = json.loads((folder / artifacts.METADATA).read_text())
    metrics_path = folder / artifacts.METRICS
    metrics = json.loads(metrics_path.read_text()) if metrics_path.is_file() else None
    provenance = metadata.get("keras_interp", {}).get("provenance", {})
    entry = ENTRIES.get(provenance.get("model"))
    if entry and not provenance["dataset"].startswith(f"{entry.dataset} "):
        entry = None  # It was trained on other data by the zoo's recipe.
    picture = PICTURE if (folder / artifacts.EXPLANATION).is_file() else []
    known = {key: value for card in older[::-1] for key, value in card.data.to_dict().items()}
    license = license or (entry and LICENSE) or known.get("license")
    if not license:
        raise ValueError("The license of the weights must be given, as in license='apache-2.0'. Received: license=None")
    if entry:
        task, datasets = f"{'image' if len(entry.input_shape) == 3 else 'tabular'}-{entry.task}", [entry.dataset]
        text = _zoo_card(entry, metrics, metadata, repo_id, license, picture)
    else:
        task, datasets = None, known.get("datasets")
        text = _own_card(model, metrics, metadata, repo_id, license, picture)
    title = entry.name if entry else repo_id.split("/")[1]  # pyright: ignore[reportOptionalMemberAccess]
    fields = {
        "license": license,
        "library_name": "keras",
        "tags": [TAG, "keras", "interpretability", *([task] if task else [])],
        "datasets": datasets,
        "model_name": title,
        "eval_results": _results(metrics, task, entry.dataset if entry else metrics["split"]) if metrics else None,
    }
    others = {key: value for key, value in known.items() if key not in fields and key != "model-index"}
    fields["tags"] += [tag for tag in known.get("tags", ()) if tag not in fields["tags"]]
    kept = {heading: section for card in older[::-1] for heading, section in _own_sections(card.text).items()}
    card_data = huggingface_hub.ModelCardData(**fields, **others)
    card = huggingface_hub.ModelCard(
        "\n".join([f"---\n{card_data.to_yaml()}\n---\n", text.strip(), *("\n" + part for part in kept.values())]) + "\n"
    )
    card.save(path)
    return path


def _results(metrics, task, dataset):
    return [
        huggingface_hub.EvalResult(
            task_type=task or "other",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for metric, value in metrics["values"].items()
    ]


def _own_sections(text):
    """Hand-written sections of a card's body, {heading: text}."""
    sections, in_code = [], False
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        if re.match("##? ", line) and not in_code:
            sections.append([line])
        elif sections:
            sections[-1].append(line)
    # The first one is the title and its text.
    return {lines[0]: "\n".join(lines).strip() for lines in sections[1:] if not re.fullmatch(f"## ({SECTIONS}) *", lines[0])}


def _use(name, input_shape, explains=True):
    shape = ", ".join(map(str, input_shape))
    images = len(input_shape) == 3
    inputs = f"raw pixels, 0..255, (n, {shape})" if images else f"raw rows, (n, {shape})"
    variable = "images" if images else "rows"
    return [
        "```python",
        "from keras_interp import zoo",
        "",
        f'model = zoo.load("{name}")',
        f"outputs = model.predict({variable})  # {inputs}" + ("; model.class_names names the outputs" if explains else ""),
        *([f"model.explain({variable}).plot()"] if explains else []),
        "```",
        "",
    ]


PICTURE = [f"![Explained predictions]({artifacts.EXPLANATION})", ""]
LIMITS = [
    "## Limits",
    "",
    "A research model of a small dataset; not for decisions about people. An explanation shows how the output comes "
    "about, not that the model is right.",
    "",
]


def _zoo_card(entry, metrics, metadata, repo_id, license, picture):
    provenance = metadata["keras_interp"]["provenance"]
    options = {**entry.options, **provenance.get("options", {})}
    lines = [
        f"# {entry.name}",
        "",
        entry.description,
        "",
        f"Method: {entry.method}. Paper: *{entry.paper.title}*.",
        "",
        *_use(f"hf://{repo_id}" if repo_id else entry.name, entry.input_shape),
        *picture,
        *(_measured(metrics, entry) if metrics else []),
        "## How it was trained",
        "",
        Recipe(**provenance["recipe"]).describe(provenance["training_examples"], provenance["dataset"]),
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
        *LIMITS,
        "## License",
        "",
        f"{'Code and weights: Apache-2.0' if license == LICENSE else f'Code: Apache-2.0. Weights: {license}'}. "
        f"{data.CREDITS[entry.dataset]}",
        "",
        "## Citation",
        "",
        f"Please cite keras-interp, and the paper of the method: *{entry.paper.title}*, {entry.paper.authors}.",
    ]
    return "\n".join(lines)


def _own_card(model, metrics, metadata, repo_id, license, picture):
    labels = ", ".join(map(str, getattr(model, "class_names", None) or ()))
    lines = [
        f"# {repo_id.split('/')[1]}",
        "",
        f"A `{type(model).__name__}`, made with keras-interp.",
        "",
        *_use(f"hf://{repo_id}", model.input_shape[1:], isinstance(model, InterpretableModel)),
        *picture,
        *([f"Outputs: {labels}.", ""] if labels else []),
        *(_measured(metrics) if metrics else ["No measured figures are included.", ""]),
        "## How it was trained",
        "",
        f"{model.count_params():,} parameters; saved {metadata.get('date_saved', '')[:10]} with Keras "
        f"{metadata['keras_version']}.",
        "",
        *LIMITS,
        "## License",
        "",
        f"Weights: {license}.",
        "",
        "## Citation",
        "",
        f"Please cite keras-interp, and the paper of the method that `{type(model).__name__}` names.",
    ]
    return "\n".join(lines)


def _measured(metrics, entry=None):
    """Section of measured figures, for a zoo model next to those of its baseline and the paper."""
    baseline_name, published = (entry.baseline, entry.paper_metrics) if entry else (None, {})
    baseline = ((baseline_name and artifacts.read_metrics(baseline_name)) or {"values": {}})["values"]
    spread = metrics.get("seeds")
    heads = [
        "metric",
        "ours",
        *(["all seeds"] if spread else []),
        *([baseline_name] if baseline_name else []),
        *(["paper"] if entry else []),
        "what it is",
    ]
    rows = []
    for metric, value in metrics["values"].items():
        cells = [metric, figure(value)]
        cells += [_spread(spread["values"][metric])] if spread else []
        cells += [figure(baseline.get(metric))] if baseline_name else []
        cells += [figure(published.get(metric))] if entry else []
        rows.append([*cells, metrics["definitions"][metric]])
    seeds = f" The column of all seeds shows mean and standard deviation over the seeds {spread['seeds']}." if spread else ""
    remark = entry.remark(metrics["values"], baseline) if entry else ""
    return [
        f"## Measured on {metrics['split']} ({metrics['examples']:,} examples)",
        "",
        *(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)),
        "",
        f"Figures of the last epoch, measured with the stored weights by `keras-interp evaluate`.{seeds}",
        "",
        *([remark, ""] if remark else []),
    ]


def figure(value: float | None) -> str:
    if value is None:
        return ""
    whole = isinstance(value, int) or (value == round(value) and abs(value) > 1)
    return f"{value:,.0f}" if whole else f"{value:.4f}"


def _spread(values):
    digits = 1 if all(isinstance(value, int) for value in values) else 4
    return f"{statistics.fmean(values):,.{digits}f} ± {statistics.stdev(values):,.{digits}f}"
