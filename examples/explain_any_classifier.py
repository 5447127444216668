"""Attaches an explanation module to a classifier of `keras.applications`, which stays unchanged, and draws its x-features.

    python examples/explain_any_classifier.py --data-dir DIR [--dataset caltech_birds2011_mini] [--weights imagenet]

The module learns to rebuild the logit of the ImageNet class that MobileNet finds most often among the images, from five
x-features. `--weights` may be a file of weights, too, for a machine without network.
"""

import argparse

import keras
import numpy as np
from keras import layers

from keras_interp import data, metrics
from keras_interp.models import ExplanationModule

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data-dir", help="folder of the prepared datasets; defaults to TFDS_DATA_DIR")
parser.add_argument("--dataset", default="caltech_birds2011_mini", help="name of a dataset in TensorFlow Datasets")
parser.add_argument("--weights", default="imagenet")
parser.add_argument("--alpha", type=float, default=0.75, help="width of the MobileNet")
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--output", default="x_features.png")
arguments = parser.parse_args()

train, test = (data.load(arguments.dataset, split, arguments.data_dir) for split in ("train", "test"))
# The preprocessing of MobileNet as layers, so that the module takes pixels of the dataset's size.
pixels = keras.Input(train.inputs.shape[1:])
x = layers.Resizing(224, 224)(pixels)
x = layers.Rescaling(1 / 127.5, offset=-1)(x)
classifier = keras.applications.MobileNet(
    alpha=arguments.alpha,
    input_tensor=x,
    weights="imagenet" if arguments.weights == "imagenet" else None,
    classifier_activation=None,  # What is explained is a logit, not a probability.
)
if arguments.weights != "imagenet":
    trained = keras.applications.MobileNet(alpha=arguments.alpha, weights=None)
    trained.load_weights(arguments.weights)
    classifier.set_weights(trained.get_weights())

decisions = classifier.predict(train.inputs, batch_size=64, verbose=1).argmax(axis=1)
target = int(np.bincount(decisions).argmax())
print(f"{(decisions == target).sum()} of {len(train)} images are of ImageNet class {target} to the network")

module = ExplanationModule(classifier, "global_average_pooling2d", [target], heatmap_layer="conv_pw_5_relu")
module.compile_by_default().fit(train.inputs, decisions, epochs=arguments.epochs, verbose=2)

rebuilt, logits = (values[:, 0] for values in module.predict_targets(test.inputs))
error = metrics.logit_faithfulness(rebuilt, logits)
print(f"on test images the rebuilt logit is off by {error.error:.3f}, {error.relative_error:.1%} of its standard deviation")
strongest = np.argsort(-logits)[:4]
explanation = module.explain(test.inputs[strongest], target)
explanation.plot(path=arguments.output)
print(f"Wrote {arguments.output}")
