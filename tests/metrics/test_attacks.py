import functools
import re

import numpy as np
import pytest

from keras_interp.metrics import attacks
from keras_interp.metrics.attacks import differential_evolution, local_search_attack, one_pixel_attack

ATTACKS = [functools.partial(one_pixel_attack, population=100), local_search_attack]
SIZE, ROW, COLUMN = 8, 2, 5


def weak_pixel(pixels):
    """Logits of a model that sees one pixel only and predicts class 1 once it is dark."""
    brightness = pixels[:, ROW, COLUMN].astype("float64").sum(axis=-1)
    return np.stack([np.zeros(len(pixels)), (250.0 - brightness) / 50], axis=1)


def constant(pixels):
    return np.zeros((len(pixels), 3))


def linear(pixels):
    """Logits of a fixed random linear model of three classes, in which one pixel weighs more than others."""
    weights = np.random.default_rng(1).normal(size=(SIZE * SIZE * 3, 3))
    weights[3 * (ROW * SIZE + COLUMN) :][:3] *= 4
    return (np.asarray(pixels, "float64").reshape(len(pixels), -1) / 255 - 0.5) @ weights


@pytest.fixture
def grey():
    return np.full((6, SIZE, SIZE, 3), 100, "uint8")


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3)).astype("uint8")


def run(attack, predict, images, labels, **settings):
    return attack(predict, images, labels, progress=False, **settings)


def changed_pixels(result, images):
    return (result.adversarial != images[result.indices]).any(axis=-1)


@pytest.mark.parametrize("attack", ATTACKS, ids=["one_pixel", "local_search"])
class TestBothAttacks:
    def test_finds_the_weak_pixel(self, attack, grey):
        result = run(attack, weak_pixel, grey, np.zeros(6, int))
        assert (result.attempted, result.succeeded, result.success_rate) == (6, 6, 1.0)
        assert changed_pixels(result, grey)[:, ROW, COLUMN].all()
        assert (weak_pixel(result.adversarial).argmax(axis=1) == 1).all()

    def test_a_constant_model_never_flips(self, attack, grey):
        result = run(attack, constant, grey, np.zeros(6, int))
        assert (result.attempted, result.succeeded, result.success_rate) == (6, 0, 0.0)
        assert result.adversarial.shape == (0, SIZE, SIZE, 3) and not result.flipped.any()

    def test_leaves_out_misclassified_images(self, attack, grey):
        labels = np.array([0, 1, 0, 1, 1, 0])
        result = run(attack, weak_pixel, grey, labels)
        np.testing.assert_array_equal(result.correct, labels == 0)
        np.testing.assert_array_equal(result.indices, [0, 2, 5])
        assert (result.attempted, result.misclassified, len(result.adversarial)) == (3, 3, 3)

    def test_asks_no_more_when_all_images_are_misclassified(self, attack, grey):
        result = run(attack, weak_pixel, grey, np.ones(6, int))
        assert result.queries == 6 and result.attempted == 0 and np.isnan(result.success_rate)

    @pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
    def test_results_are_valid_images_that_flip(self, attack, noise, dtype):
        images = noise.astype(dtype)
        labels = linear(images).argmax(axis=1)
        original = images.copy()
        result = run(attack, linear, images, labels)
        assert 0 < result.succeeded < len(images)
        assert result.adversarial.dtype == dtype
        assert result.adversarial.min() >= 0 and result.adversarial.max() <= 255
        assert (linear(result.adversarial).argmax(axis=1) != labels[result.indices]).all()
        np.testing.assert_array_equal(images, original)

    def test_the_batch_size_changes_nothing(self, attack, noise):
        labels = linear(noise).argmax(axis=1)
        first, second = (run(attack, linear, noise, labels, batch_size=size) for size in (7, 5000))
        np.testing.assert_array_equal(first.flipped, second.flipped)
        np.testing.assert_array_equal(first.adversarial, second.adversarial)
        assert first.queries == second.queries

    def test_batches_are_bounded_and_counted(self, attack, noise):
        sizes = []

        def predict(pixels):
            sizes.append(len(pixels))
            return linear(pixels)

        result = run(attack, predict, noise, linear(noise).argmax(axis=1), batch_size=50)
        assert max(sizes) == 50 and sum(sizes) == result.queries

    def test_the_seed_decides(self, attack, noise):
        labels = linear(noise).argmax(axis=1)
        first, second, other = (run(attack, linear, noise, labels, seed=seed) for seed in (3, np.random.default_rng(3), 4))
        np.testing.assert_array_equal(first.adversarial, second.adversarial)
        assert first.adversarial.shape != other.adversarial.shape or (first.adversarial != other.adversarial).any()

    def test_an_image_is_attacked_alike_whatever_becomes_of_the_others(self, attack, noise):
        labels = linear(noise).argmax(axis=1)
        whole = run(attack, linear, noise, labels)
        wrong = (labels + (np.arange(len(labels)) % 2)) % 3
        half = run(attack, linear, noise, wrong)
        np.testing.assert_array_equal(half.flipped[::2], whole.flipped[::2])
        np.testing.assert_array_equal(half.adversarial, whole.adversarial[whole.indices % 2 == 0])

    def test_labels_may_be_a_column_and_images_oblong_and_grey(self, attack):
        images = np.full((2, 4, 9, 1), 100, "uint8")
        result = run(attack, lambda x: np.stack([x[:, 3, 8, 0], np.full(len(x), 90.0)], 1), images, np.zeros((2, 1), int))
        assert result.succeeded == 2 and (result.adversarial[:, 3, 8, 0] < 90).all()

    def test_shows_progress(self, attack, grey, capsys):
        attack(weak_pixel, grey, np.zeros(6, int))
        assert "6 of 6 flipped" in capsys.readouterr().out
        result = attack(constant, grey, np.zeros(6, int))
        assert f"0 of 6 flipped {result.queries}/{result.queries}" in re.sub("[━╸╺ ]+", " ", capsys.readouterr().out)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"labels": np.array([0, 0, 0, 0, 0, 2])}, r"\[0, 2\)"),
            ({"labels": np.array([0, 0, 0, 0, 0, -1])}, r"\[0, 2\)"),
            ({"labels": np.zeros(5, int)}, "one label for each of 6"),
            ({"labels": 0}, "one label for each of 6"),
            ({"images": np.zeros((SIZE, SIZE, 3), "uint8")}, "images\\[None\\]"),
            ({"images": np.zeros((0, SIZE, SIZE, 3), "uint8"), "labels": np.zeros(0, int)}, "at least one image"),
            ({"images": np.full((6, SIZE, SIZE, 3), 256.0)}, "0..255"),
            ({"images": np.full((6, SIZE, SIZE, 3), -0.1)}, "0..255"),
            ({"images": np.full((6, SIZE, SIZE, 3), np.nan)}, "finite"),
            ({"predict": lambda pixels: np.zeros(len(pixels))}, "`predict`"),
            ({"predict": lambda pixels: np.zeros((len(pixels), 1))}, "`predict`"),
            ({"predict": lambda pixels: np.zeros((1, 2))}, "`predict`"),
            ({"predict": lambda pixels: np.full((len(pixels), 2), np.nan)}, "`predict`"),
            ({"batch_size": 0}, "`batch_size`"),
        ],
    )
    def test_rejects_bad_arguments(self, attack, grey, change, message):
        arguments = {"predict": weak_pixel, "images": grey, "labels": np.zeros(6, int), "progress": False, **change}
        with pytest.raises(ValueError, match=f"(?s){message}.*Received: .+"):
            attack(**arguments)

    def test_rejects_labels_that_are_not_integers(self, attack, grey):
        with pytest.raises(TypeError, match=r"Received: dtype=float64"):
            run(attack, weak_pixel, grey, np.zeros(6))


class TestOnePixel:
    def test_changes_one_pixel_only(self, noise):
        labels = linear(noise).argmax(axis=1)
        result = run(one_pixel_attack, linear, noise, labels)
        assert (changed_pixels(result, noise).sum(axis=(1, 2)) == 1).all()

    def test_spends_the_budget_on_images_that_hold_out(self, grey):
        result = run(one_pixel_attack, constant, grey, np.zeros(6, int), population=7, generations=3)
        assert result.queries == 6 + 6 * 7 * (3 + 1)

    def test_stops_on_the_first_flip(self, grey):
        flips_when_touched = lambda pixels: np.stack([np.zeros(len(pixels)), np.ptp(pixels, axis=(1, 2, 3)) - 0.5], 1)  # noqa: E731
        result = run(one_pixel_attack, flips_when_touched, grey, np.zeros(6, int), population=7)
        assert result.queries == 6 + 6 * 7

    def test_passes_pixels_in_their_dtype_and_range(self, grey):
        def predict(pixels):
            assert pixels.dtype == "uint8"
            return weak_pixel(pixels)

        run(one_pixel_attack, predict, grey, np.zeros(6, int))

    @pytest.mark.parametrize("settings", [{"population": 4}, {"generations": 0}, {"population": 40.0}])
    def test_rejects_a_budget_that_is_too_small(self, grey, settings):
        with pytest.raises(ValueError, match=r"Received: (population|generations)="):
            run(one_pixel_attack, weak_pixel, grey, np.zeros(6, int), **settings)


class TestDifferentialEvolution:
    def test_starts_from_a_latin_hypercube_in_every_run(self):
        points, values = differential_evolution(
            lambda active, points: (points.sum(axis=-1), np.ones(len(active), bool)), 3, 4, 10, 5, np.random.default_rng(0)
        )
        assert values.shape == (3, 10)
        np.testing.assert_array_equal(
            np.sort((points * 10).astype(int), axis=1), np.broadcast_to(np.arange(10)[:, None], (3, 10, 4))
        )

    def test_evolves_only_active_runs_that_are_not_done_and_never_gets_worse(self):
        seen = []

        def evaluate(active, points):
            seen.append(active.tolist())
            assert (points >= 0).all() and (points < 1).all()
            return ((points - 0.3) ** 2).sum(axis=-1), active == 4

        _, values = differential_evolution(evaluate, 6, 3, 8, 3, np.random.default_rng(0), np.array([1, 4, 5]))
        assert seen == [[1, 4, 5], [1, 5], [1, 5], [1, 5]]
        assert np.isinf(values[[0, 2, 3]]).all() and (values[[1, 5]].min(axis=1) < values[4].min()).all()

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: ((x - 0.3) ** 2).sum(axis=0),
            lambda x: ((10 * x - 4) ** 2 - 10 * np.cos(2 * np.pi * (10 * x - 4)) + 10).sum(axis=0),
        ],
        ids=["bowl", "rastrigin"],
    )
    def test_finds_optima_as_good_as_scipy(self, function):
        optimize = pytest.importorskip("scipy.optimize")
        settings = {"popsize": 8, "maxiter": 30, "recombination": 1, "updating": "deferred", "vectorized": True}
        settings |= {"polish": False, "tol": 0, "atol": -1}
        theirs = [optimize.differential_evolution(function, [(0, 1)] * 5, rng=seed, **settings).fun for seed in range(15)]

        def evaluate(active, points):
            return function(np.moveaxis(points, -1, 0)), np.zeros(len(active), bool)

        _, values = differential_evolution(evaluate, 200, 5, 40, 30, np.random.default_rng(0))
        assert abs(np.median(np.log10(values.min(axis=1))) - np.median(np.log10(theirs))) < 0.3


class TestLocalSearch:
    def test_cycles_values_about_mid_grey(self):
        pixels = np.array([0.0, 127.5, 153.0, 204.0, 255.0])  # -0.5, 0, 0.1, 0.3, 0.5
        np.testing.assert_allclose(attacks._cycle(pixels, 1.5), [191.25, 127.5, 165.75, 242.25, 63.75])
        np.testing.assert_allclose(attacks._cycle(pixels, 1.0), pixels)
        np.testing.assert_allclose(attacks._cycle(pixels, 0.0), 127.5)

    def test_probes_one_pixel_at_its_extreme(self, grey):
        batches = []

        def predict(pixels):
            batches.append(pixels.copy())
            return constant(pixels)

        grey[:, :, :, 2] = 200
        run(local_search_attack, predict, grey, np.zeros(6, int), rounds=1)
        clean, probes, changed = batches
        assert {batch.dtype for batch in batches} == {np.dtype("float32")}
        touched = (probes != clean[0]).any(axis=-1)
        assert len(probes) == 6 * 6 and (touched.sum(axis=(1, 2)) == 1).all()  # A tenth of 64 pixels, in 6 images.
        np.testing.assert_allclose(probes[touched], np.broadcast_to([-2422.5, -2422.5, 2677.5], (36, 3)))
        touched = (changed != clean).any(axis=-1)
        assert (touched.sum(axis=(1, 2)) == 5).all()
        np.testing.assert_allclose(changed[touched], np.broadcast_to([86, 86, 236], (30, 3)))

    def test_later_candidates_lie_in_squares_around_the_picked_pixels(self):
        batches = []

        def predict(pixels):
            batches.append(pixels.copy())
            return constant(pixels)

        images = np.full((1, 20, 20, 3), 100, "uint8")
        run(local_search_attack, predict, images, [0], rounds=2, pixels_per_round=1, half_side=1, max_candidates=400)
        _, probes, changed, later, _ = batches
        assert len(probes) == 40
        ((row, column),) = np.argwhere((changed[0] != 100).any(axis=-1))
        near = np.argwhere((later != changed[0]).any(axis=-1))[:, 1:]
        inside = [(r, c) for r in range(20) for c in range(20) if max(abs(r - row), abs(c - column)) <= 1]
        assert sorted(map(tuple, near)) == inside

    def test_follows_a_plain_implementation(self):
        image = np.random.default_rng(5).integers(0, 256, (1, SIZE, SIZE, 3)).astype("uint8")
        batches = []

        def predict(pixels):
            batches.append(pixels.copy())
            return linear(pixels) + np.array([99.0, 0.0, 0.0])  # Never flips.

        # The squares cover the image and every candidate is probed, so that only the first round is random.
        run(local_search_attack, predict, image, [0], rounds=4, half_side=SIZE, max_candidates=SIZE**2)
        expected = batches[2][0]
        for changed in batches[4::2]:
            scores = {}
            for place in np.ndindex(SIZE, SIZE):
                probed = expected.copy()
                probed[place] = np.where(expected[place] > 127.5, 2677.5, -2422.5)
                logits = linear(probed[None])[0] + np.array([99.0, 0.0, 0.0])
                scores[place] = logits[0] - np.logaddexp(*logits[1:])
            for place in sorted(scores, key=scores.get)[:5]:
                values = 1.5 * (expected[place] - 127.5)
                values = np.where(values > 127.5, values - 255, np.where(values < -127.5, values + 255, values))
                expected[place] = np.rint(values + 127.5)
            np.testing.assert_array_equal(changed[0], expected)
        assert len(batches) == 9

    def test_picks_the_pixels_that_matter(self):
        images = np.full((1, 10, 10, 3), 100, "uint8")
        order = np.random.default_rng(0).permutation(100)

        def predict(pixels):
            dark = (pixels.sum(axis=-1) < 290).reshape(len(pixels), -1)
            return np.stack([np.full(len(pixels), 1000.0), dark @ order], axis=1)

        settings = {"rounds": 1, "pixels_per_round": 3, "max_candidates": 100}
        picks = {}
        for descending in (False, True):
            batches = []
            watched = lambda pixels: (batches.append(pixels.copy()), predict(pixels))[1]  # noqa: B023, E731
            run(local_search_attack, watched, images, [0], descending=descending, **settings)
            probed = np.sort(order[(batches[1] != 100).any(axis=-1).reshape(-1, 100).nonzero()[1]])
            picks[descending] = np.sort(order[(batches[2] != 100).any(axis=-1).ravel()]).tolist()
        assert picks == {False: probed[-3:].tolist(), True: probed[:3].tolist()}

    def test_either_order_can_be_right(self):
        bright = np.full((4, SIZE, SIZE, 3), 250, "uint8")  # A probe brightens what the cycle turns dark.
        flips = {
            descending: run(
                local_search_attack, weak_pixel, bright, np.zeros(4, int), descending=descending, pixels_per_round=1
            )
            for descending in (False, True)
        }
        assert flips[True].succeeded == 4 and flips[False].succeeded == 0

    def test_changes_no_more_pixels_than_the_rounds_allow(self, noise):
        labels = linear(noise).argmax(axis=1)
        result = run(local_search_attack, linear, noise, labels, rounds=3, pixels_per_round=2)
        count = changed_pixels(result, noise).sum(axis=(1, 2))
        assert (count >= 1).all() and (count <= 6).all()

    def test_tiny_images_have_fewer_candidates_than_pixels_per_round(self):
        result = run(local_search_attack, constant, np.full((2, 2, 2, 3), 90, "uint8"), [0, 0], rounds=2)
        assert result.queries == 2 + 2 * (1 + 1) + 2 * (4 + 1)

    @pytest.mark.parametrize(
        "settings",
        [{"rounds": 0}, {"max_candidates": 0}, {"pixels_per_round": 0}, {"half_side": -1}, {"probe": 0.0}, {"factor": 2.1}],
    )
    def test_rejects_settings_out_of_range(self, grey, settings):
        with pytest.raises(ValueError, match=f"Received: .*{next(iter(settings))}="):
            run(local_search_attack, weak_pixel, grey, np.zeros(6, int), **settings)
