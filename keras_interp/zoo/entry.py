"""Types of the registry: definitions of models before they are trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_interp import data
from keras_interp.optimizers import CoupledSGD
from keras_interp.typing import PathLike, Shape


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper of the zoo.

    Attributes:
        key: its short name on the command line.
        title: its title.
        authors: its authors, and where it was submitted, if the paper says so.
        training: a sentence on the paper's own training, for the cards.
        headline: {metric: heading} for the columns of the README's table of its models.
    """

    key: str
    title: str
    authors: str
    training: str
    headline: Mapping


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Training settings of a zoo model.

    Attributes:
        epochs: passes through the training data.
        batch_size: examples in a step, over all replicas.
        learning_rate: peak of the learning rate.
        schedule: "cosine" for a linear warm-up and a cosine decay of the learning rate, or "steps" to divide it by 10 after
            each quarter of the run.
        warmup: share of the steps spent on the rise to the peak.
        optimizer: "sgd", with momentum and coupled weight decay, or "adam".
        momentum: of SGD.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: of SGD.
        readout_decay: weight decay of the last layer's kernel, if it differs from the rest.
        pad: zero padding for random crops, in pixels.
        flip: whether to mirror images at random.
        min_positives: positive examples of each attribute in a batch, see `data.Batches`.
        dtype_policy: Keras dtype policy for training; saved weights are float32.
        seed: seed for initial weights, order and augmentation.
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 0.2
    schedule: str = "cosine"
    warmup: float = 0.25
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    readout_decay: float | None = None
    pad: int = 4
    flip: bool = True
    min_positives: int = 0
    dtype_policy: str = "mixed_bfloat16"
    seed: int = 1

    def build_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Optimizer for `epochs` epochs of the given number of steps."""
        steps = self.epochs * steps_per_epoch
        schedules = keras.optimizers.schedules
        if self.schedule == "steps":
            quarters = [steps * quarter // 4 for quarter in (1, 2, 3)]
            rates = [self.learning_rate / 10**quarter for quarter in range(4)]
            schedule = schedules.PiecewiseConstantDecay(quarters, rates)
        elif self.schedule == "cosine":
            warmup, start = int(self.warmup * steps), self.learning_rate / 20
            schedule = schedules.CosineDecay(
                start, max(steps - warmup, 1), warmup_target=self.learning_rate, warmup_steps=warmup
            )
        else:
            raise ValueError(f"`schedule` must be 'cosine' or 'steps'. Received: schedule={self.schedule!r}")
        if self.optimizer == "adam":
            return keras.optimizers.Adam(schedule)  # pyright: ignore[reportArgumentType]
        own = {} if self.readout_decay is None else {"logits/kernel": self.readout_decay}
        return CoupledSGD(schedule, self.momentum, self.nesterov, self.weight_decay, own)

    def describe(self, examples: int, dataset: str) -> str:
        """A sentence on a run of this recipe, with the number of examples and the dataset's name."""
        optimizer = "Adam"
        if self.optimizer == "sgd":
            momentum = f"{'Nesterov ' if self.nesterov else ''}momentum {self.momentum}"
            optimizer = f"SGD with {momentum}, coupled weight decay {self.weight_decay}"
            if self.readout_decay is not None:
                optimizer += f" ({self.readout_decay} of the last layer's weights)"
        schedule = f"linear warm-up over {self.warmup:.0%} of the steps, cosine decay"
        if self.schedule == "steps":
            schedule = "divided by 10 after each quarter"
        steps = examples // self.batch_size * self.epochs
        crops = [f"random crops with {self.pad} pixels of padding"] if self.pad else []
        changes = " and ".join([*crops, *(["mirror images"] if self.flip else [])]) or "no augmentation"
        balanced = f", at least {self.min_positives} examples of each attribute in a batch" if self.min_positives else ""
        return (
            f"{examples:,} examples of {dataset}, {self.epochs} epochs of batches of {self.batch_size}, {steps:,} steps, "
            f"{optimizer}, learning rate up to {self.learning_rate} ({schedule}), {changes}{balanced}, `{self.dtype_policy}`, "
            f"seed {self.seed}."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One named model. Each paper's subclass defines how its models are built and measured.

    Attributes:
        name: `<method>_<architecture>_<dataset>`.
        description: one sentence.
        method: the method's name.
        paper: its `Paper`.
        dataset: name of the dataset, see `data.load`.
        class_names: names of the outputs.
        classes: indices of the dataset's classes that the model uses; None for all.
        input_shape: shape of one input.
        test_split: split for measuring.
        lazy: whether to read training images on demand, in random crops, see `data.LazyDataset`.
        task: "classification" or "regression".
        options: options of the method.
        recipe: its `Recipe`.
        paper_metrics: the paper's figures under our metric names.
        baseline: the model that its card compares it with, trained on the same budget.
        storage_dtype: dtype of the weights on disk.
        shows_examples: whether examples of the data may ship with the weights; if not, the golden inputs are noise, and the
            card has no picture.
        comparison: whether it is a row of a paper's comparisons, which lists omit by default.
    """

    name: str
    description: str
    method: str
    paper: Paper
    dataset: str
    class_names: tuple
    input_shape: tuple
    classes: tuple | None = None
    test_split: str = "test"
    lazy: bool = False
    task: str = "classification"
    options: Mapping = dataclasses.field(default_factory=dict)
    recipe: Recipe = Recipe()
    paper_metrics: Mapping = dataclasses.field(default_factory=dict)
    baseline: str | None = None
    storage_dtype: str = "float32"
    shows_examples: bool = True
    comparison: bool = False

    # {metric: sentence} for the figures of `measure`.
    definitions = {}
    # Names of the parts of the dataset's objects.
    part_names = ()

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        raise NotImplementedError

    def make(self, dataset: Any, input_shape: Shape, class_names: tuple[str, ...]) -> keras.Model:
        """The untrained model.

        Args:
            dataset: the `ArrayDataset` to build for, or None: models that scale inputs or target take the statistics from it.
            input_shape: shape of one input.
            class_names: names of the outputs.
        """
        raise NotImplementedError

    def initialize(self, model: keras.Model, data_dir: PathLike | None = None) -> None:
        """Prepares an untrained model for training, for example by loading the weights of another one."""

    def of_model(self, model: keras.Model) -> Entry:
        """Entry for a trained model of this entry, which may have been built with other outputs or units."""
        return self

    def measure(self, model: keras.Model, dataset: Any, data_dir: PathLike | None = None) -> dict[str, float]:
        """Figures of a trained model on an `ArrayDataset`, {metric: float}; other datasets come from `data_dir`."""
        raise NotImplementedError

    def remark(self, values: Mapping[str, float], baseline: Mapping[str, float]) -> str:
        """A sentence for the card that compares the figures with the baseline's, {metric: value} both; empty by default."""
        return ""

    def callbacks(self, model: keras.Model, dataset: Any, data_dir: PathLike | None = None) -> list[keras.callbacks.Callback]:
        """Callbacks for training on a dataset, which may add figures to the log of an epoch."""
        return []

    def finish(self, model: keras.Model, data_dir: PathLike | None = None) -> None:
        """Finishes a trained model before it is saved."""
        model.prune()

    def load_data(self, split: str, data_dir: PathLike | None = None) -> Any:
        """A split of the dataset, with the model's classes under the model's names, see `data.load`."""
        split = self.test_split if split == "test" else split
        if self.lazy:
            dataset = data.load_lazily(self.dataset, split, data_dir, self.input_shape[:2])
            return dataset if split == "train" else dataset.to_arrays()
        dataset = data.load(self.dataset, split, data_dir)
        if not dataset.class_names:
            return dataset
        return dataset.select_classes(self.classes or range(len(dataset.class_names)), self.class_names)

    def build(
        self,
        num_outputs: int | None = None,
        input_shape: Shape | None = None,
        class_names: Sequence[str] | None = None,
        dataset: Any = None,
    ) -> keras.Model:
        """The untrained, uncompiled model, in the requested size or that of the dataset."""
        if dataset is not None:
            input_shape = input_shape or dataset.input_shape
            class_names = class_names or dataset.class_names
        if class_names and num_outputs and len(class_names) != num_outputs:
            raise ValueError(
                f"There must be one class name for each of {num_outputs} outputs. Received: {len(class_names)} class_names"
            )
        class_names = class_names or (self.class_names if num_outputs is None else tuple(map(str, range(num_outputs))))
        return self.make(dataset, tuple(input_shape or self.input_shape), tuple(class_names))


def resnet_name(backbone: Any) -> str:
    """Name of the architecture of a partial of `backbones.resnet`; of another function, its own name."""
    options = getattr(backbone, "keywords", {})
    if "depth" not in options:
        return getattr(backbone, "func", backbone).__name__
    return f"ResNet-{options['depth']}" + (f" of width {options['width']}" if options.get("width", 64) != 64 else "")
