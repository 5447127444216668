import keras
import numpy as np
import pytest

from keras_interp.explain.gradients import input_gradient
from keras_interp.layers import SparseReconstructionAE
from keras_interp.layers.sparse_reconstruction_ae import PENALTIES, pull_away, sparse_penalty


def small(num_modules=2, dimensions=7, **options):
    layer = SparseReconstructionAE(3, (6, 4), num_modules=num_modules, **options)
    layer.build((None, dimensions))
    return layer


def arrays(layer):
    return {weight.name: keras.ops.convert_to_numpy(weight).astype(float) for weight in layer.trainable_weights}


def numpy_module(weights, z, module):
    """One module, layer by layer; shares nothing with the package."""
    hidden = z
    for name in ("encoder1", "encoder2", "encoder3"):
        hidden = np.maximum(hidden @ weights[f"{name}_kernel"][module] + weights[f"{name}_bias"][module], 0)
    features, hidden = hidden, hidden
    for name in ("decoder1", "decoder2", "decoder3"):
        hidden = np.maximum(hidden @ weights[f"{name}_kernel"][module] + weights[f"{name}_bias"][module], 0)
    prediction = features @ weights["predictor1_kernel"][module][:, 0] + weights["predictor1_bias"][module, 0]
    return features, prediction, hidden


def test_modules_follow_a_numpy_rendering(rng):
    layer, z = small(), rng.random((5, 7)).astype("float32")
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0.2, 0.5, weight.shape))
    outputs = [np.asarray(output) for output in layer(z)]
    assert [output.shape for output in outputs] == [(5, 2, 3), (5, 2), (5, 2, 7)]
    for module in range(2):
        for output, expected in zip(outputs, numpy_module(arrays(layer), z, module)):
            np.testing.assert_allclose(output[:, module], expected, rtol=1e-4, atol=1e-5)
    squares = [sum((kernel[m] ** 2).sum() for name, kernel in arrays(layer).items() if "kernel" in name) for m in range(2)]
    np.testing.assert_allclose(layer.kernel_penalty(), squares, rtol=1e-5)


def test_together_as_alone(rng):
    """Values at the start, outputs, and the noise of training do not depend on the number of modules."""
    together, z = small(3, dropout=0.4, seed=5), rng.random((40, 7)).astype("float32")
    whole = [np.asarray(output) for output in together(z, training=True)]
    for module in range(3):
        alone = small(1, dropout=0.4, seed=5 + module)
        alone.noise.state.assign(small(1, seed=5).noise.state)
        for one, other in zip(together.trainable_weights, alone.trainable_weights):
            np.testing.assert_array_equal(one[module], other[0], err_msg=one.name)
        for output, expected in zip(whole, alone(z, training=True)):
            np.testing.assert_allclose(output[:, module], np.asarray(expected)[:, 0], atol=1e-6)
    assert not np.allclose(whole[0], together(z)[0])


def reference_penalty(errors, kind, q):
    if kind == "mean":
        return errors.mean(axis=-1)
    if kind == "log":
        return np.log(1 + q * errors).mean(axis=-1)
    if kind == "l1":
        return np.sqrt(errors).mean(axis=-1)
    if kind == "epsilon_l1":
        return (np.sqrt(errors + 1 / q) - np.sqrt(1 / q)).mean(axis=-1)
    chance, rho = errors / (1 + errors), 1 / q
    return (rho * np.log(rho / chance) + (1 - rho) * np.log((1 - rho) / (1 - chance))).mean(axis=-1)


@pytest.mark.parametrize("kind", PENALTIES)
def test_penalties(kind, rng):
    errors = rng.gamma(1.0, 2.0, (3, 8)).astype("float32")
    np.testing.assert_allclose(sparse_penalty(errors, kind, 20.0), reference_penalty(errors, kind, 20.0), rtol=2e-5)
    # Few dimensions that carry the whole error cost less than all that share it, which is what makes the penalty sparse.
    spread, alone = np.full(8, 0.5, "float32"), np.array([4.0] + [0.0] * 7, "float32")
    if kind not in ("kl", "mean"):
        assert float(sparse_penalty(alone, kind, 20.0)) < float(sparse_penalty(spread, kind, 20.0))
    zero = np.zeros((2, 4), "float32")
    assert np.isfinite(sparse_penalty(zero, kind, 20.0)).all()
    assert np.isfinite(input_gradient(lambda x: sparse_penalty(x, kind, 20.0), zero)).all()


def test_errors_and_weights(rng):
    layer, z, rebuilt = small(), rng.random((6, 7)).astype("float32"), rng.random((6, 2, 7)).astype("float32")
    squares = (rebuilt - z[:, None]) ** 2
    np.testing.assert_allclose(layer.reconstruction_errors(z, rebuilt), squares.mean(axis=0), rtol=1e-5)
    weights = rng.random((6, 2)).astype("float32")
    weights /= weights.mean(axis=0)
    expected = (squares * weights[..., None]).sum(axis=0) / weights.sum(axis=0)[:, None]
    np.testing.assert_allclose(layer.reconstruction_errors(z, rebuilt, weights), expected, rtol=1e-5)
    # Batches say on average what the whole says, though the rare examples that weigh most are not in all of them.
    halves = [
        layer.reconstruction_errors(*(part[rows] for part in (z, rebuilt, weights))) for rows in ([0, 1], [2, 3], [4, 5])
    ]
    np.testing.assert_allclose(np.mean([np.asarray(half) for half in halves], axis=0), expected, rtol=1e-5)


def test_a_running_estimate_takes_the_bias_of_small_batches_away(rng):
    """Over the data Q is 1 in each dimension; the penalty of batches of 4 is too small, that of the estimate is not."""
    layer, squares = small(1), rng.chisquare(1, (4000, 1, 7)).astype("float32")
    errors = squares.mean(axis=0)
    whole = float(layer.reconstruction_penalty(errors)[0])
    batches = squares.reshape(1000, 4, 1, 7).mean(axis=1)
    small_batches = np.mean([float(layer.reconstruction_penalty(batch)[0]) for batch in batches[:200]])
    assert small_batches < whole - 0.1
    assert float(layer.reconstruction_penalty(batches[0], errors)[0]) == pytest.approx(whole, rel=1e-5)
    # The slope is that of log(1 + qQ) at the estimate, whatever the batch.
    gradient = input_gradient(lambda batch: layer.reconstruction_penalty(batch, errors), batches[3])
    np.testing.assert_allclose(gradient, 100 / (1 + 100 * errors) / 7, rtol=1e-4)


def test_pull_away_is_the_mean_squared_cosine(rng):
    features, weights = rng.random((9, 2, 4)).astype("float32"), rng.random((9, 2)).astype("float32")
    for given in (None, weights):
        for module in range(2):
            columns = features[:, module] * (1 if given is None else np.sqrt(given[:, module])[:, None])
            cosines = np.corrcoef(np.vstack([columns, -columns]).T)  # of columns whose mean is 0
            expected = (cosines[~np.eye(4, dtype=bool)] ** 2).mean()
            assert float(pull_away(features, given)[module]) == pytest.approx(expected, rel=1e-4)
    assert float(pull_away(np.eye(4, dtype="float32")[:, None])[0]) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(pull_away(np.zeros((3, 1, 2), "float32"))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SparseReconstructionAE(0), "`num_features`"),
        (lambda: SparseReconstructionAE(2, (0,)), "hidden_units"),
        (lambda: SparseReconstructionAE(2, num_modules=0), "num_modules"),
        (lambda: SparseReconstructionAE(2, dropout=1.0), "`dropout`"),
        (lambda: SparseReconstructionAE(2, sparsity="l0"), "`kind`.*'l0'"),
        (lambda: SparseReconstructionAE(2, sparsity_strength=0), "`strength`"),
        (lambda: SparseReconstructionAE(2, sparsity="kl", sparsity_strength=1), "above 1"),
        (lambda: small()(np.ones((2, 3, 7))), "rank|ndim|shape"),
        (lambda: SparseReconstructionAE(2)(np.ones((2, 3, 7))), r"\(batch, dimensions\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
