"""Metrics, one module for each family: small functions of arrays that state their range and direction.

The most common ones are imported here; all others are in their module, as `metrics.filters.cluster_agreement`.
"""

from keras_interp.extras import require_evaluation_extra
from keras_interp.metrics import (
    attacks,
    classification,
    concepts,
    connections,
    dissection,
    dropping,
    filters,
    gates,
    heatmaps,
    localization,
    masking,
    regression,
)
from keras_interp.metrics.attacks import local_search_attack, one_pixel_attack
from keras_interp.metrics.classification import accuracy, confusion_matrix, cross_entropy, recall, top_k_accuracy
from keras_interp.metrics.concepts import logit_faithfulness
from keras_interp.metrics.connections import connection_sparsity, units_to_explain
from keras_interp.metrics.dissection import dissect
from keras_interp.metrics.dropping import accuracy_costs
from keras_interp.metrics.gates import gate_density
from keras_interp.metrics.localization import pointing_game
from keras_interp.metrics.masking import masking_effect
from keras_interp.metrics.regression import root_mean_squared_error

__all__ = [
    "accuracy",
    "accuracy_costs",
    "attacks",
    "classification",
    "concepts",
    "confusion_matrix",
    "connection_sparsity",
    "connections",
    "cross_entropy",
    "dissect",
    "dissection",
    "dropping",
    "filters",
    "gate_density",
    "gates",
    "heatmaps",
    "local_search_attack",
    "localization",
    "logit_faithfulness",
    "masking",
    "masking_effect",
    "one_pixel_attack",
    "pointing_game",
    "recall",
    "regression",
    "require_evaluation_extra",
    "root_mean_squared_error",
    "top_k_accuracy",
    "units_to_explain",
]
