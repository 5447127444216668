"""Metrics of connections from units to classes: sparsity of a last layer, and the units that explain a logit.

Paper: "Adaptive Activation Thresholding: Dynamic Routing Type Behavior for Interpretability in Convolutional Neural
Networks", sections 4.1 to 4.3.
"""

from collections.abc import Sequence

import numpy as np

from keras_interp.checks import check_array, check_labels
from keras_interp.typing import ArrayLike


def connection_sparsity(kernel: ArrayLike, threshold: float = 1e-3) -> float:
    """Share of the weights whose magnitude is below a threshold (Figures 4b and 5b).

    Args:
        kernel: float array (units, classes) of a last layer.
        threshold: magnitude below which a connection counts as absent; the paper's 10⁻³.

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: for NaN, an array of another rank, or a threshold that is not positive.

    Examples:

    >>> connection_sparsity(np.array([[0.5, 0.0], [1e-5, -0.2]]))
    0.5
    """
    return float(1 - _connected(kernel, threshold).mean())


def connected_units(kernel: ArrayLike, threshold: float = 1e-3) -> np.ndarray:
    """Number of units that each class is connected to, whatever the input: static nonzeros of a class.

    Args:
        kernel, threshold: as for `connection_sparsity`.

    Returns:
        An integer array (classes,).

    Raises:
        ValueError: as for `connection_sparsity`.

    Examples:

    >>> connected_units(np.array([[0.5, 0.0], [1e-5, -0.2]])).tolist()
    [1, 1]
    """
    return _connected(kernel, threshold).sum(axis=0)


def units_to_explain(contributions: ArrayLike, share: float = 0.95) -> np.ndarray:
    """Smallest number of units that make up a share of a logit, for each input (section 4.3 and Figure 7).

    Contributions of both signs count by their magnitude: the share is relative to the sum of magnitudes without the bias, as
    in the authors' code. The paper says that fewer than 5 units explain about 98% with Dynamic-5.

    Args:
        contributions: float array (n, units), as of an `Explanation`.
        share: share to reach, in (0, 1].

    Returns:
        An integer array (n,); 0 if no unit contributes.

    Raises:
        ValueError: for NaN, an array of another rank, or a share outside (0, 1].

    Examples:

    >>> units_to_explain(np.array([[8.0, 1.0, -1.0], [0.0, 0.0, 3.0]]), 0.9).tolist()
    [2, 1]
    """
    contributions = check_array("contributions", contributions, ("n", "units"))
    if not 0 < share <= 1:
        raise ValueError(f"`share` must lie in (0, 1]. Received: share={share}")
    sizes = -np.sort(-np.abs(contributions).astype("float64"), axis=1)
    reached = sizes.cumsum(axis=1)
    # Rounding must not require a unit that adds nothing.
    missing = reached < share * reached[:, -1:] * (1 - 1e-9)
    return np.where(reached[:, -1] > 0, missing.sum(axis=1) + 1, 0)


def concepts_of_classes(
    contributions: ArrayLike, labels: ArrayLike, concepts: Sequence[str], num_classes: int, share: float = 0.95
) -> np.ndarray:
    """Smallest number of concepts that make up a share of the evidence for each class (section 4.3).

    A class's contributions are the means over its own inputs, and units of one concept count as one; a unit without a concept
    counts for itself. The paper says that more than 95% of the classes need at most 5.

    Args:
        contributions: float array (n, units): contributions to the logit of each input's own class.
        labels: integers (n,), the classes.
        concepts: names of the units' concepts, (units,); empty for a unit without one.
        num_classes: number of classes.
        share: share to reach, in (0, 1].

    Returns:
        A float array (classes,); NaN for a class without inputs.

    Raises:
        ValueError: for arrays that do not fit, NaN, or labels out of range.

    Examples:

    >>> contributions = np.array([[4.0, 4.0, 2.0], [0.0, 0.0, 5.0]])
    >>> concepts_of_classes(contributions, [0, 1], ["sea", "sea", "sky"], num_classes=2, share=0.8).tolist()
    [1.0, 1.0]
    """
    contributions = check_array("contributions", contributions, ("n", "units"))
    labels = check_labels(labels, num_classes)
    if len(labels) != len(contributions) or len(concepts) != contributions.shape[1]:
        raise ValueError(
            "There must be one label for each input and one concept for each unit. "
            f"Received: shape={contributions.shape}, {len(labels)} labels, {len(concepts)} concepts"
        )
    names = [concept or number for number, concept in enumerate(concepts)]
    groups = {name: number for number, name in enumerate(dict.fromkeys(names))}
    membership = np.eye(len(groups))[[groups[name] for name in names]]
    counts = np.full(num_classes, np.nan)
    for number in np.unique(labels):
        mean = np.abs(contributions[labels == number].mean(axis=0))
        counts[number] = units_to_explain(mean[None] @ membership, share)[0]
    return counts


def _connected(kernel, threshold):
    if not threshold > 0:
        raise ValueError(f"`threshold` must be positive. Received: threshold={threshold}")
    return np.abs(check_array("kernel", kernel, ("units", "classes"))) >= threshold
