"""Feature leveling and its L0 baseline as scikit-learn estimators, for arrays and for data frames as people have them."""

import contextlib
import random
from typing import Any, Self

import keras
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from keras_interp.backbones import column_scaling
from keras_interp.checks import as_array, check_options, is_named_table
from keras_interp.data.schema import Table
from keras_interp.explain.explanation import Explanation
from keras_interp.models import FeatureLevelingNetwork, L0Network
from keras_interp.numerics import log_softmax

# Rows in a batch of predictions, which are filled up: a row gets the same answer in any company.
ROWS = 256


class _GatedEstimator(BaseEstimator):
    """What the four estimators share."""

    _network: type = FeatureLevelingNetwork

    def __init__(
        self,
        hidden_units=(64, 32),
        l0_weight=0.05,
        epochs=60,
        batch_size=64,
        learning_rate=5e-3,
        missing="flag",
        min_count=10,
        random_state=None,
        verbose=0,
    ):
        self.hidden_units = hidden_units
        self.l0_weight = l0_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.missing = missing
        self.min_count = min_count
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, X, y, sample_weight, task):
        check_options(
            vars(self),
            **dict.fromkeys(("hidden_units", "epochs", "batch_size", "min_count"), "integer [1, inf)"),
            learning_rate="(0, inf)",
        )
        y = column_or_1d(as_array(y), warn=True)
        rows, schema = self._rows_of_training(X, y)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, rows, ensure_non_negative=True)
        if task == "classification":
            self.classes_, targets = np.unique(y, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"Classifier can't train when only one class is present. Received: {self.classes_.tolist()}")
            options: dict[str, Any] = {"class_names": tuple(map(str, self.classes_))}
        else:
            targets = np.asarray(y, "float32")
            scale = float(targets.std()) or 1.0
            options = {"task": "regression", "target_mean": float(targets.mean()), "target_scale": scale}
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with _seeded(seed):
            model = self._network(
                tuple(self.hidden_units),
                input_shape=(rows.shape[1],),
                preprocessing=column_scaling(rows, allow_constant=True),
                l0_weight=self.l0_weight,
                seed=seed,
                **options,
            )
            model.schema = schema
            batch = min(self.batch_size, len(rows))
            steps = self.epochs * -(-len(rows) // batch)
            schedule: Any = keras.optimizers.schedules.CosineDecay(
                self.learning_rate / 20,
                max(steps - steps // 20, 1),
                warmup_target=self.learning_rate,
                warmup_steps=steps // 20,
            )
            model.compile_by_default(keras.optimizers.Adam(schedule))
            model.fit(rows, targets, batch, self.epochs, self.verbose, sample_weight=weights)
        self.model_, self.n_iter_ = model, self.epochs
        return self

    def _rows_of_training(self, X, y):
        """Rows of numbers, and the schema of a data frame that has more than numbers."""
        if _is_frame(X) and not _is_numeric(X):
            validate_data(self, X, y, skip_check_array=True)
            table = Table.from_frame(
                {**{name: X[name] for name in X.columns}, "": np.arange(len(X), dtype="float64")},
                "",
                task="regression",
                missing=self.missing,
                min_count=self.min_count,
            )
            return table.inputs, table.schema
        numeric = self.__class__.__name__.endswith("Regressor")
        rows: Any = validate_data(self, X, y, dtype="float32", ensure_min_samples=2, y_numeric=numeric)[0]
        return rows, None

    def _outputs(self, X):
        check_is_fitted(self)
        rows = self._rows(X)
        filled = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % ROWS, axis=0)])
        return self.model_.predict(filled, ROWS, verbose=0)[: len(rows)]

    def _rows(self, X):
        if self.model_.schema is not None and _is_frame(X):
            validate_data(self, X, reset=False, skip_check_array=True)
            return self.model_.schema.encode(X)
        return validate_data(self, X, dtype="float32", reset=False)

    def explain(self, X: Any, target: Any = None) -> Explanation:
        """Explains a prediction for each row, see `models.FeatureLevelingNetwork.explain`.

        Args:
            X: rows (n, columns), or a data frame.
            target: the class to explain: one of `classes_`, or one for each row; by default the predicted ones.

        Returns:
            An `Explanation`; of a feature-leveling network, `by_column()` says what each column adds.
        """
        check_is_fitted(self)
        if target is not None and hasattr(self, "classes_"):
            known = {one: index for index, one in enumerate(self.classes_.tolist())}
            targets = np.atleast_1d(target).tolist()
            if unknown := [one for one in targets if one not in known]:
                raise ValueError(f"`target` must be among the classes {list(known)}. Received: {unknown[:8]}")
            indices = [known[one] for one in targets]
            target = indices[0] if np.ndim(target) == 0 else indices
        return self.model_.explain(self._rows(X), target)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags


class _Classifier(ClassifierMixin, _GatedEstimator):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains the network.

        Args:
            X: rows of numbers (n, columns), or a data frame with text, booleans and gaps.
            y: classes (n,).
            sample_weight: None, or weights (n,).

        Returns:
            The estimator.
        """
        check_classification_targets(y)
        return self._fit(X, y, sample_weight, "classification")

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits (n, classes); of two classes the difference of the second and the first, (n,)."""
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, classes), in the order of `classes_`."""
        return np.exp(log_softmax(self._outputs(X).astype("float64")))

    def predict(self, X: Any) -> np.ndarray:
        """The predicted class of each row, (n,)."""
        logits = self._outputs(X)
        return self.classes_[logits.argmax(axis=1)]


class _Regressor(RegressorMixin, _GatedEstimator):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains the network.

        Args:
            X: rows of numbers (n, columns), or a data frame with text, booleans and gaps.
            y: values (n,).
            sample_weight: None, or weights (n,).

        Returns:
            The estimator.
        """
        return self._fit(X, y, sample_weight, "regression")

    def predict(self, X: Any) -> np.ndarray:
        """The predicted value of each row, (n,)."""
        return self._outputs(X)[:, 0]


class FeatureLevelingClassifier(_Classifier):
    """A `models.FeatureLevelingNetwork` for classes, with scikit-learn's manners.

    Args:
        hidden_units: numbers of units of the hidden layers.
        l0_weight: weight λ of the expected L0 of the gates; larger closes more of them.
        epochs: passes through the data.
        batch_size: rows in a batch.
        learning_rate: peak of Adam's learning rate, with a short warm-up and a cosine decay.
        missing: of a data frame, "flag" to give columns with gaps a second one that says where, or "refuse".
        min_count: of a data frame, rows that a category needs for a level of its own.
        random_state: seed of initial weights, gates and order.
        verbose: as for `keras.Model.fit`.

    Attributes:
        model_: the trained Keras model.
        classes_: the classes.
        n_features_in_, feature_names_in_: as of every scikit-learn estimator.

    Examples:

    >>> import pandas
    >>> frame = pandas.DataFrame({"age": np.arange(40.0), "sea": ["near", "far"] * 20})
    >>> estimator = FeatureLevelingClassifier(epochs=2, random_state=0).fit(frame, frame["age"] > 20)
    >>> estimator.explain(frame.head(1)).by_column().names_of(0)
    ('age = 0', 'sea = near')
    """


class FeatureLevelingRegressor(_Regressor):
    """A `models.FeatureLevelingNetwork` for values, see `FeatureLevelingClassifier` for the arguments."""


class L0Classifier(_Classifier):
    """A `models.L0Network` for classes, see `FeatureLevelingClassifier` for the arguments."""

    _network = L0Network


class L0Regressor(_Regressor):
    """A `models.L0Network` for values, see `FeatureLevelingClassifier` for the arguments."""

    _network = L0Network


def _is_frame(X):
    # Some sparse arrays are dicts.
    return is_named_table(X) and hasattr(X, "columns")


def _is_numeric(frame):
    dtypes = getattr(frame, "dtypes", None)
    return (
        dtypes is not None and all(getattr(dtype, "kind", "O") in "uif" for dtype in dtypes) and not frame.isna().any().any()
    )


@contextlib.contextmanager
def _seeded(seed):
    """Keras's global seeds for a training, and the states of Python and NumPy as they were after it."""
    states = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
