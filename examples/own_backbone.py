"""Puts label-sensitive gates on your own backbone: any functional Keras model that ends in feature maps.

    python examples/own_backbone.py --dataset cifar10 --data-dir DIR

Here it is a small separable network that takes raw pixels. Models of `keras.applications` with `include_top=False` work too;
put their preprocessing in front, as a layer.
"""

import argparse

import keras
from keras import layers

from keras_interp import data
from keras_interp.models import LabelSensitiveClassifier
from keras_interp.optimizers import CoupledSGD

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--dataset", default="cifar10", help="name of a dataset in TensorFlow Datasets, or an .npz file")
parser.add_argument("--data-dir", help="folder of the prepared datasets; defaults to TFDS_DATA_DIR")
parser.add_argument("--epochs", type=int, default=6)
arguments = parser.parse_args()

dataset = data.load(arguments.dataset, "train", arguments.data_dir)
held_out, kept = dataset[: len(dataset) // 10], dataset[len(dataset) // 10 :]

pixels = keras.Input(dataset.inputs.shape[1:])
x = layers.Rescaling(1 / 127.5, offset=-1)(pixels)
for filters in (32, 64, 128):
    x = layers.SeparableConv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
backbone = keras.Model(pixels, x)

batches = data.Batches(kept, min(128, len(kept)), flip=True)
model = LabelSensitiveClassifier(
    backbone,
    class_names=dataset.class_names,
    scheme="joint",
    gate_weight=0.3,
    sparsity_weight=6e-3,
    # The L1 term alone closes an entry in 1 / (gate_weight * sparsity_weight * gate_learning_rate) steps: a quarter of these.
    gate_learning_rate=4 / (arguments.epochs * len(batches) * 0.3 * 6e-3),
)
model.compile(
    CoupledSGD(0.1, momentum=0.9, weight_decay=1e-4),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(
    batches,
    epochs=arguments.epochs,
    validation_data=(held_out.inputs, held_out.targets),
)

explanation = model.explain(held_out.inputs[:4])
for label, units in zip(explanation.prediction, explanation.top_units(3)):
    print(model.class_names[label], "because of", ", ".join(explanation.unit_names[unit] for unit in units))
