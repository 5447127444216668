"""The feature selection baseline of the explanation module: a Lasso picks dimensions of the layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_interp.checks import check_options
from keras_interp.models.concept_explainer import ConceptExplainer


@keras.saving.register_keras_serializable("keras_interp")
class LassoModule(ConceptExplainer):
    """The paper's feature selection baseline: the x-features are a few dimensions of the layer, picked by a Lasso.

    scikit-learn fits a target's logit as a linear function of the layer's activations with an L1 term, with the example
    weights of an `ExplanationModule`.

    Args:
        classifier, layer, targets, class_names, positive_share, heatmap_layer, concept_names, name: as for
            `ExplanationModule`.
        alpha: weight α of the L1 term, as in `sklearn.linear_model.Lasso`.

    Raises:
        TypeError, ValueError: as for `ExplanationModule`, and for an α that is not positive.

    Examples:

    >>> from keras import layers
    >>> classifier = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu", name="units"), layers.Dense(3)])
    >>> module = LassoModule(classifier, "units", targets=[0, 2], alpha=0.01)
    >>> rows, classes = np.random.default_rng(0).normal(size=(30, 6)), np.arange(30) % 3
    >>> module.fit(rows, classes)
    >>> rebuilt, logits = module.predict_targets(rows)
    >>> rebuilt.shape
    (30, 2)
    """

    def __init__(
        self,
        classifier: keras.Model,
        layer: str,
        targets: Sequence[str | int] | None = None,
        class_names: Sequence[str] | None = None,
        alpha: float = 0.5,
        positive_share: float = 0.5,
        heatmap_layer: str | None = None,
        concept_names: Mapping[str | int, Sequence[str]] | None = None,
        name: str | None = None,
    ) -> None:
        check_options(locals(), alpha="(0, inf)")
        super().__init__(classifier, layer, targets, class_names, positive_share, heatmap_layer, concept_names, name)
        self.alpha = alpha
        modules, fixed = len(self.target_indices), {"trainable": False, "dtype": "float32", "initializer": "zeros"}
        self.coefficients = self.add_weight(name="coefficients", shape=(modules, self.num_dimensions), **fixed)
        self.intercepts = self.add_weight(name="intercepts", shape=(modules,), **fixed)

    def fit(self, x: Any, y: Any = None) -> None:
        """Selects the dimensions for each target, see `ExplanationModule.fit`."""
        self.fit_activations(*self.fitting_data(x, y))

    def fit_activations(self, z: np.ndarray, targets: Mapping[str, np.ndarray]) -> None:
        """Like `fit`, on the result of `fitting_data`, which modules with other α can share."""
        from sklearn.linear_model import Lasso

        fits = [
            Lasso(self.alpha, precompute=True, max_iter=10_000).fit(z, logits, sample_weight=weights)
            for logits, weights in zip(targets["logits"].T, targets["weights"].T)
        ]
        self.coefficients.assign(np.stack([one.coef_ for one in fits]))
        self.intercepts.assign(np.stack([one.intercept_ for one in fits]))

    @property
    def num_selected(self) -> np.ndarray:
        """Number of dimensions that each target's Lasso picked, integers (modules,)."""
        return (ops.convert_to_numpy(self.coefficients) != 0).sum(axis=1)

    @property
    def num_features(self) -> int:
        return max(int(self.num_selected.max()), 1)

    def _selected(self):
        """Indices (modules, features) of the picked dimensions, and their coefficients, padded with dimensions of weight 0."""
        coefficients = ops.convert_to_numpy(self.coefficients)
        order = np.argsort(coefficients == 0, axis=1, kind="stable")[:, : self.num_features]
        return order, np.take_along_axis(coefficients, order, axis=1)

    def encode(self, z: np.ndarray) -> np.ndarray:
        dimensions, kernel = self._selected()
        return np.asarray(z)[:, dimensions] * (kernel != 0)

    def predictor(self) -> tuple[np.ndarray, np.ndarray]:
        return self._selected()[1], ops.convert_to_numpy(self.intercepts)

    def _priors(self, z, modules, contrastive):
        # All probability is on the one dimension, if it is active in the image; its dual has none.
        dimensions, kernel = (part[modules] for part in self._selected())
        live = (np.take_along_axis(z, dimensions, axis=1) > 0) & (kernel != 0)
        priors = np.zeros((*dimensions.shape, self.num_dimensions), "float32")
        np.put_along_axis(priors, dimensions[..., None], live[..., None].astype("float32"), axis=2)
        return priors

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}
