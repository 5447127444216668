"""The estimators by scikit-learn's own checks, and on tables as people have them."""

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from keras_interp.sklearn import FeatureLevelingClassifier, FeatureLevelingRegressor, L0Classifier, L0Regressor

# What scikit-learn expects and a training in batches is not.
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 shares its batch with others than two rows do",
}
OPTIONS = {"hidden_units": (16,), "epochs": 60, "random_state": 0}


@parametrize_with_checks(
    [FeatureLevelingClassifier(**OPTIONS), L0Regressor(**OPTIONS)], expected_failed_checks=lambda estimator: EXPECTED
)
def test_what_scikit_learn_expects(estimator, check):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("manners do not depend on the backend, and a hundred trainings take time")
    check(estimator)


@pytest.fixture
def frame(rng):
    table = pd.DataFrame(
        {"age": rng.normal(40, 10, 120), "sea": rng.choice(["near", "far"], 120), "rich": rng.random(120) < 0.5}
    )
    table.loc[3, "age"] = np.nan
    return table


@pytest.mark.parametrize("kind", [FeatureLevelingClassifier, L0Classifier])
def test_frames_with_text_and_gaps(kind, frame):
    bought = np.where(frame["sea"] == "near", "yes", "no")
    estimator = kind(hidden_units=(8,), epochs=60, random_state=0).fit(frame, bought)
    assert estimator.score(frame, bought) > 0.95 and estimator.classes_.tolist() == ["no", "yes"]
    assert estimator.feature_names_in_.tolist() == ["age", "sea", "rich"]
    other_order = frame[["rich", "sea", "age"]]
    with pytest.raises(ValueError, match="in the same order"):
        estimator.predict(other_order)
    explanation = estimator.explain(frame.head(3), target="yes")
    explanation.check_completeness()
    assert explanation.target.tolist() == [1, 1, 1]
    if kind is FeatureLevelingClassifier:
        assert explanation.by_column().names_of(0)[1] == f"sea = {frame['sea'][0]}"
    with pytest.raises(ValueError, match="must be among the classes"):
        estimator.explain(frame.head(3), target="maybe")


def test_grid_search_clones_and_pipelines(rng):
    rows = rng.normal(size=(80, 3))
    values = rows[:, 0] * 2 + 1
    search = GridSearchCV(FeatureLevelingRegressor(epochs=2, random_state=0), {"l0_weight": [0.01, 0.1]}, cv=2).fit(
        rows, values
    )
    assert search.best_params_["l0_weight"] in (0.01, 0.1)
    pipeline = make_pipeline(StandardScaler(), FeatureLevelingRegressor((8,), epochs=2, random_state=0)).fit(rows, values)
    scaled = StandardScaler().fit_transform(rows)
    expected = FeatureLevelingRegressor((8,), epochs=2, random_state=0).fit(scaled, values).predict(scaled)
    np.testing.assert_allclose(pipeline.predict(rows), expected, rtol=1e-4, atol=1e-5)
    assert clone(pipeline[-1]).get_params() == pipeline[-1].get_params()


def test_a_seed_leaves_no_trace(rng):
    rows, classes = rng.normal(size=(40, 2)), rng.integers(0, 2, 40)
    np.random.seed(3)
    expected = np.random.random(3)
    np.random.seed(3)
    one, other = (FeatureLevelingClassifier(epochs=2, random_state=7).fit(rows, classes).predict_proba(rows) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.random.random(3), expected)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"hidden_units": ()}, {"learning_rate": -1.0}, {"l0_weight": -1.0}])
def test_options_out_of_range(options, rng):
    with pytest.raises(ValueError, match=next(iter(options))):
        FeatureLevelingClassifier(**options).fit(rng.normal(size=(20, 2)), np.arange(20) % 2)
