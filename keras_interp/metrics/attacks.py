"""Black-box attacks: success rates of flipping correct predictions by a few pixels (Table 3 of the LSG paper).

Both attacks only ask for logits, so they run on any model and any Keras backend. All images are attacked at once; a flipped
image makes no further queries. Random numbers are drawn for every image at every step, whatever happens to the others: with
the same seed and images, two models face the same draws, whatever the batch size.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_interp.checks import check_inputs, check_labels
from keras_interp.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """Result of an attack on n images.

    Attributes:
        correct: booleans (n,), the images that were classified correctly. Only these are attacked.
        flipped: booleans (n,), the attacked images whose predicted class changed.
        adversarial: the changed images (succeeded, height, width, channels) in the dtype of the originals and within 0..255,
            in the order of `indices`.
        queries: total number of forward passes, including those on the n unchanged images.
    """

    correct: np.ndarray
    flipped: np.ndarray
    adversarial: np.ndarray
    queries: int

    @property
    def attempted(self) -> int:
        """Number of attacked images, the correctly classified ones."""
        return int(self.correct.sum())

    @property
    def misclassified(self) -> int:
        """Number of skipped images, which the model misclassifies anyway."""
        return len(self.correct) - self.attempted

    @property
    def succeeded(self) -> int:
        """Number of images that flipped."""
        return int(self.flipped.sum())

    @property
    def success_rate(self) -> float:
        """Share of the attacked images that flipped, in [0, 1]; NaN if none was attacked. Lower is more robust."""
        return self.succeeded / self.attempted if self.attempted else float("nan")

    @property
    def indices(self) -> np.ndarray:
        """Positions (succeeded,) of the flipped images among the n."""
        return np.flatnonzero(self.flipped)


def one_pixel_attack(
    predict: Callable[[np.ndarray], ArrayLike],
    images: ArrayLike,
    labels: ArrayLike,
    population: int = 40,
    generations: int = 10,
    batch_size: int = 1000,
    seed: int | np.random.Generator = 0,
    progress: bool = True,
) -> AttackResult:
    """One-pixel attack (Su et al., 2019): differential evolution over a pixel's place and color.

    The settings are those of one-pixel-attack-keras and of SciPy's "best1bin": recombination 1, mutation drawn from [0.5, 1)
    for each generation, a Latin hypercube to start from. A candidate replaces its parent when the probability of the true
    class is no higher; an image is done as soon as any candidate flips it. Colors are whole numbers.

    An image that does not flip costs `population` · (`generations` + 1) passes: 440 by default, up to 220,000 for 500 images,
    which takes 73 seconds at 3,000 a second. The published budget, `population=400, generations=75`, is 69 times as large.
    Success rates rise with the budget: compare models under one budget only.

    Args:
        predict: callable from pixels (m, height, width, channels) in 0..255, in the dtype of `images`, to logits (m, classes);
            m is at most `batch_size` and varies.
        images: array (n, height, width, channels) of pixels in 0..255, uint8 or float.
        labels: integers (n,), the true classes.
        population: candidates for each image, at least 5.
        generations: generations after the first population.
        batch_size: images in one call of `predict`, which bounds the memory of the queries.
        seed: integer or `np.random.Generator`.
        progress: whether to show a progress bar.

    Returns:
        An `AttackResult`, whose images differ from the originals in one pixel.

    Raises:
        ValueError: for images or labels of another shape or range, a budget that is too small, or logits that are not finite
            and of shape (m, classes).
        TypeError: for labels that are not integers.

    Examples:

    >>> predict = lambda pixels: pixels[:, 0, 0, :2].astype("float32")
    >>> images = np.full((5, 2, 2, 3), [200, 100, 0], "uint8")
    >>> result = one_pixel_attack(predict, images, np.zeros(5, int), progress=False)
    >>> result.attempted, result.success_rate
    (5, 1.0)
    """
    _check_at_least(1, generations=generations, batch_size=batch_size)
    _check_at_least(5, population=population)
    images = _check_pixels(images)
    n, height, width, channels = images.shape
    scale = np.array([height, width] + [256] * channels)
    adversarial, flipped = images.copy(), np.zeros(n, bool)
    steps_left = generations + 1

    def evaluate(active, points):
        nonlocal steps_left
        # A fraction just below 1 may round up to the scale, which lies outside.
        genes = np.minimum((points * scale).astype(int), scale - 1)
        flat = genes.reshape(-1, 2 + channels)
        owners = np.repeat(active, population)
        odds, wins = queries.ask(images, owners, (flat[:, 0], flat[:, 1], flat[:, 2:]))
        odds, wins = odds.reshape(-1, population), wins.reshape(-1, population)
        done = wins.any(axis=1)
        winners = genes[done, np.where(wins, odds, np.inf).argmin(axis=1)[done]]
        adversarial[active[done], winners[:, 0], winners[:, 1]] = winners[:, 2:]
        flipped[active[done]] = True
        steps_left -= 1
        queries.show(flipped, (~done).sum() * population * steps_left)
        return odds, done

    with _bar(progress) as bar:
        queries = _Queries(predict, images, labels, images.dtype, batch_size, bar, "One-pixel attack")
        attacked = np.flatnonzero(queries.correct)
        queries.show(flipped, len(attacked) * population * steps_left)
        rng = np.random.default_rng(seed)
        differential_evolution(evaluate, n, 2 + channels, population, generations, rng, attacked)
    return AttackResult(queries.correct, flipped, adversarial[flipped], queries.count)


def differential_evolution(
    evaluate: Callable,
    runs: int,
    dimensions: int,
    population: int,
    generations: int,
    rng: np.random.Generator,
    active: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimizes many functions over the unit cube at once: SciPy's "best1bin" with recombination 1 and deferred updating.

    Args:
        evaluate: callable of run numbers (m,) and points (m, population, dimensions) in [0, 1), to values (m, population) and
            booleans (m,), the runs that are done. These evolve no further.
        runs: number of functions.
        dimensions: dimensions of the cube.
        population: points of each run, at least 5.
        generations: generations after the first population.
        rng: `np.random.Generator`.
        active: indices of the runs to evolve; defaults to all.

    Returns:
        Points (runs, population, dimensions) and their values (runs, population), infinite for runs that were not active.
    """
    segments = np.broadcast_to(np.arange(population)[:, None], (runs, population, dimensions))
    points = (rng.permuted(segments, axis=1) + rng.random(segments.shape)) / population
    values = np.full((runs, population), np.inf)
    active = np.arange(runs) if active is None else active
    if not len(active):
        return points, values
    values[active], done = evaluate(active, points[active])

    members = np.arange(population)
    for _ in range(generations):
        dither = rng.uniform(0.5, 1.0, (runs, 1, 1))
        # Offsets to two other members, distinct and never 0.
        first = rng.integers(1, population, (runs, population))
        second = rng.integers(1, population - 1, (runs, population))
        second += second >= first
        fresh = rng.random(points.shape)

        active = active[~done]
        if not len(active):
            break
        own = points[active]
        best = own[np.arange(len(active)), values[active].argmin(axis=1)][:, None]
        one, other = (
            np.take_along_axis(own, ((members + step[active]) % population)[..., None], axis=1) for step in (first, second)
        )
        trials = best + dither[active] * (one - other)
        trials = np.where((trials >= 0.0) & (trials < 1.0), trials, fresh[active])
        trial_values, done = evaluate(active, trials)
        better = trial_values <= values[active]
        points[active] = np.where(better[..., None], trials, own)
        values[active] = np.where(better, trial_values, values[active])
    return points, values


def local_search_attack(
    predict: Callable[[np.ndarray], ArrayLike],
    images: ArrayLike,
    labels: ArrayLike,
    rounds: int = 30,
    max_candidates: int = 32,
    pixels_per_round: int = 5,
    half_side: int = 5,
    probe: float = 10.0,
    factor: float = 1.5,
    descending: bool = False,
    batch_size: int = 1000,
    seed: int | np.random.Generator = 0,
    progress: bool = True,
) -> AttackResult:
    """Greedy local search (Narodytska & Kasiviswanathan, 2016), with the settings of foolbox.

    With pixels scaled to [-0.5, 0.5], each round
    - probes candidate pixels one at a time: all channels are set to `probe` times their sign, and the probability of the true
      class is the pixel's score. The first candidates are a random tenth of all pixels;
    - picks `pixels_per_round` of them by score and multiplies their values by `factor`, in the image that the next round
      starts from. Values beyond [-0.5, 0.5] wrap around;
    - takes the squares around the picked pixels as the next candidates.
    An image is done when its changed version, not a probe, flips. Integer images are rounded in each round.

    An image that does not flip costs `rounds` · (`max_candidates` + 1) passes: 990 by default, up to 495,000 for 500 images,
    which takes 165 seconds at 3,000 a second. The published budget, `rounds=150, max_candidates=128`, is 20 times as large.
    Success rates rise with the budget: compare models under one budget only.

    Args:
        predict: callable from float pixels (m, height, width, channels) to logits (m, classes); m is at most `batch_size` and
            varies. Unless `probe` is 0.5 or less, the probes lie far outside 0..255 and must be taken as they are, which the
            `predict` of our models refuses: give that of `keras.Model(model.inputs, model.outputs)`, which checks nothing.
        images: array (n, height, width, channels) of pixels in 0..255, uint8 or float.
        labels: integers (n,), the true classes.
        rounds: largest number of rounds, R of the paper.
        max_candidates: largest number of pixels probed in a round, drawn at random from the candidates.
        pixels_per_round: pixels changed in a round, t of the paper.
        half_side: the squares reach so many pixels to each side, d of the paper.
        probe: p of the paper, above 0.
        factor: r of the paper, in [0, 2].
        descending: picks the pixels whose probe leaves the true class its highest probability, as foolbox does since it fixed
            its issue 237; by default those whose probe lowers it most, as foolbox did before. A probe drives a value outwards
            while a factor of 1.5 flips the sign of values beyond a third, so that either order can be the better one.
        batch_size: images in one call of `predict`, which bounds the memory of the queries.
        seed: integer or `np.random.Generator`.
        progress: whether to show a progress bar.

    Returns:
        An `AttackResult`, whose images differ from the originals in `rounds` · `pixels_per_round` pixels or fewer.

    Raises:
        ValueError: for images or labels of another shape or range, settings out of range, or logits that are not finite and of
            shape (m, classes).
        TypeError: for labels that are not integers.
    """
    _check_at_least(1, rounds=rounds, max_candidates=max_candidates, pixels_per_round=pixels_per_round, batch_size=batch_size)
    _check_at_least(0, half_side=half_side)
    if not probe > 0.0 or not 0.0 <= factor <= 2.0:
        raise ValueError(f"`probe` must be above 0 and `factor` in [0, 2]. Received: probe={probe}, factor={factor}")
    images = _check_pixels(images)
    n, height, width, _ = images.shape
    dtype = np.result_type(images.dtype, np.float32)
    square = np.arange(-half_side, half_side + 1)
    rng = np.random.default_rng(seed)
    changed, flipped = images.copy(), np.zeros(n, bool)
    candidates = np.ones((n, height, width), bool)
    limit = min(max_candidates, max(1, height * width // 10))

    with _bar(progress) as bar:
        queries = _Queries(predict, images, labels, dtype, batch_size, bar, "Local search attack")
        active = np.flatnonzero(queries.correct)
        for rounds_left in range(rounds, 0, -1):
            queries.show(flipped, len(active) * rounds_left * (max_candidates + 1))
            if not len(active):
                break
            # The candidates with the smallest random numbers are a random choice.
            keys = rng.random((n, height * width), dtype=np.float32)[active]
            keys[~candidates[active].reshape(keys.shape)] = np.inf
            pixels = np.argpartition(keys, limit - 1, axis=1)[:, :limit]
            probed = np.isfinite(np.take_along_axis(keys, pixels, axis=1))

            place = active[np.nonzero(probed)[0]], *np.divmod(pixels[probed], width)
            values = 255 * (probe * np.sign(_centered(changed[place])) + 0.5)
            odds, _ = queries.ask(changed, place[0], (*place[1:], values))
            scores = np.full(pixels.shape, np.inf)
            scores[probed] = -odds if descending else odds
            order = scores.argsort(axis=1, kind="stable")[:, :pixels_per_round]
            picked = np.take_along_axis(probed, order, axis=1)

            place = active[np.nonzero(picked)[0]], *np.divmod(np.take_along_axis(pixels, order, axis=1)[picked], width)
            values = _cycle(changed[place], factor)
            changed[place] = np.rint(values) if changed.dtype.kind in "ui" else values
            _, wins = queries.ask(changed, active)
            flipped[active[wins]] = True

            # Clipped to the image, a square keeps its pixels inside.
            owners, rows, columns = (values[:, None, None] for values in place)
            rows = np.clip(rows + square[:, None], 0, height - 1)
            columns = np.clip(columns + square, 0, width - 1)
            candidates[active] = False
            candidates[owners, rows, columns] = True
            limit = min(max_candidates, height * width)
            active = active[~wins]
        queries.show(flipped, 0)
    return AttackResult(queries.correct, flipped, changed[flipped], queries.count)


def _centered(pixels):
    """Pixels of 0..255 in [-0.5, 0.5], float."""
    return pixels / 255 - 0.5


def _cycle(pixels, factor):
    """Multiplies pixels about mid-gray; values beyond 0..255 wrap around."""
    values = factor * _centered(pixels)
    values = values - np.sign(values) * (np.abs(values) > 0.5)
    return np.clip(255 * (values + 0.5), 0, 255)


class _Queries:
    """Queries the model in batches, counts queries, and tells which images flip.

    Args:
        predict: callable from pixels to logits.
        images: array (n, height, width, channels).
        labels: integers (n,), the true classes.
        dtype: dtype of the pixels that `predict` gets.
        batch_size: images in a batch.
        bar: `rich.progress.Progress`.
        name: label of the bar.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], ArrayLike],
        images: np.ndarray,
        labels: ArrayLike,
        dtype: Any,
        batch_size: int,
        bar: Any,
        name: str,
    ) -> None:
        self.predict, self.dtype, self.batch_size, self.bar, self.name = predict, dtype, batch_size, bar, name
        self.count = 0
        self.task = bar.add_task(name, total=len(images))
        if np.shape(labels)[:1] != (len(images),):
            raise ValueError(f"Give one label for each of {len(images)} images. Received: shape={np.shape(labels)}")
        logits = np.concatenate([logits for _, logits in self._logits(images, np.arange(len(images)))])
        self.labels = check_labels(labels, logits.shape[1])
        self.correct = logits.argmax(axis=1) == self.labels

    def ask(self, images: np.ndarray, owners: np.ndarray, change: tuple | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of the true class, and whether another class is predicted.

        Args:
            images: array (n, height, width, channels).
            owners: integers (m,), the image of each query.
            change: rows (m,), columns (m,) and values (m, channels) of the one pixel to replace in each query.

        Returns:
            Float64 (m,), in (-inf, inf) and without the ties that probabilities close to 1 have, and booleans (m,).
        """
        odds, wins = np.empty(len(owners)), np.empty(len(owners), bool)
        for part, logits in self._logits(images, owners, change):
            labels = self.labels[owners[part]]
            wins[part] = logits.argmax(axis=1) != labels
            label = np.arange(len(labels)), labels
            own = logits[label]
            logits[label] = -np.inf
            top = logits.max(axis=1)
            odds[part] = own - top - np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return odds, wins

    def show(self, flipped: np.ndarray, left: int) -> None:
        """Updates the bar: number of flipped images, and an upper bound of the remaining passes."""
        text = f"{self.name}: {flipped.sum()} of {self.correct.sum()} flipped"
        self.bar.update(self.task, description=text, total=self.count + left)

    def _logits(self, images, owners, change=None):
        for start in range(0, len(owners), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = images[owners[part]].astype(self.dtype, copy=False)
            if change is not None:
                rows, columns, values = (array[part] for array in change)
                batch[np.arange(len(batch)), rows, columns] = values
            logits = np.array(self.predict(batch), "float64")
            if logits.ndim != 2 or len(logits) != len(batch) or logits.shape[1] < 2 or not np.isfinite(logits).all():
                raise ValueError(
                    f"`predict` must return finite logits of the shape ({len(batch)}, classes), for two classes or more. "
                    f"Received: shape={logits.shape}, {np.count_nonzero(~np.isfinite(logits))} of them not finite"
                )
            self.count += len(batch)
            self.bar.advance(self.task, len(batch))
            yield part, logits


def _bar(progress):
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, disable=not progress)


def _check_pixels(images):
    images = check_inputs(images, (None, None, None, None))
    if images.min() < 0 or images.max() > 255:
        raise ValueError(f"Images must have pixels in 0..255. Received: {images.min()}..{images.max()}")
    return images


def _check_at_least(lowest, **settings):
    for name, value in settings.items():
        if not isinstance(value, (int, np.integer)) or value < lowest:
            raise ValueError(f"`{name}` must be a whole number of at least {lowest}. Received: {name}={value}")
