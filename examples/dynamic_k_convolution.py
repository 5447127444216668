"""Dynamic-K inside a network: the second convolution sums, for each filter and position, k of its 16 input channels.

python examples/dynamic_k_convolution.py [--epochs 30]

Trains on scikit-learn's 8x8 digits, which need no download, for k = 16 (a plain convolution), 8, 4, 2 and 1, and prints for
each the accuracy on held-out digits and the share of the convolution's weights below 0.001.
"""

import argparse

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_interp.layers import DynamicKConv2D
from keras_interp.optimizers import CoupledSGD

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=30)
arguments = parser.parse_args()

digits = load_digits()
images, test_images, labels, test_labels = train_test_split(
    digits.images[..., None].astype("float32") / 16, digits.target, test_size=0.3, random_state=0, stratify=digits.target
)
table = Table("k", "accuracy on held-out digits", "weights below 0.001")
for k in (16, 8, 4, 2, 1):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            DynamicKConv2D(32, 3, k, strides=2, padding="same", name="dynamic"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.1, arguments.epochs * len(images) // 32)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(CoupledSGD(schedule, momentum=0.9, weight_decay=5e-4), cross_entropy, metrics=["accuracy"])
    model.fit(images, labels, batch_size=32, epochs=arguments.epochs, verbose=0)
    accuracy = model.evaluate(test_images, test_labels, verbose=0)[1]
    small = np.abs(keras.ops.convert_to_numpy(model.get_layer("dynamic").kernel)) < 1e-3
    table.add_row(str(k), f"{accuracy:.3f}", f"{small.mean():.3f}")
Console().print(table)
