"""Types that annotations share."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from numpy.typing import ArrayLike as ArrayLike

# Of any backend: Keras's operations have no annotations.
Tensor: TypeAlias = Any
PathLike: TypeAlias = str | os.PathLike[str]
# None for free lengths.
Shape: TypeAlias = tuple[int | None, ...]
# (height, width), of images and maps.
Size: TypeAlias = tuple[int, int]
# Examples as a model takes them: an array, or a table as a data frame or a dict of columns.
Inputs: TypeAlias = ArrayLike | Mapping[str, Any]
# Class to explain: an index or a name, or one for each input; None for the predicted one.
Target: TypeAlias = int | str | Sequence[int | str] | ArrayLike | None
