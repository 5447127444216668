"""Properties that hold for any input, on examples that hypothesis makes up, the same ones in every run."""

import json
import tempfile

import hypothesis
import keras
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_interp import layers
from keras_interp.data import Batches
from keras_interp.data.tables import read_rows
from keras_interp.layers.dynamic_k import largest_contributions, sum_of_largest
from keras_interp.layers.label_sensitive_gate import project_gate
from keras_interp.models import FeatureLevelingNetwork

few = hypothesis.settings(
    derandomize=True, max_examples=25, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


def matrices(low, high, columns):
    shapes = st.tuples(st.integers(1, 5), columns)
    return shapes.flatmap(lambda shape: arrays("float32", shape, elements=st.floats(low, high, width=32)))


@few
@hypothesis.given(matrices(-4, 4, st.integers(1, 6)))
def test_a_projected_gate_keeps_its_constraints(gate):
    once = np.asarray(project_gate(gate))
    assert ((once >= 0) & (once <= 1)).all()
    # The largest entry of a column is 1 if it is also the largest magnitude, above the smallest number to divide by.
    largest = gate.max(axis=0)
    whole = (largest == np.abs(gate).max(axis=0)) & (largest > 1e-6)
    np.testing.assert_allclose(once.max(axis=0)[whole], 1, rtol=1e-6)
    nonnegative = np.asarray(project_gate(np.where(np.abs(gate) > 1e-6, np.abs(gate), 0)))
    np.testing.assert_allclose(project_gate(nonnegative), nonnegative, rtol=1e-6)


@few
@hypothesis.given(st.data(), st.booleans())
def test_sums_of_the_largest_products_are_those_of_a_sort_with_ties(data, nonnegative):
    # One shape, so that JAX compiles once for each k; few values, so that many products tie.
    values = st.integers(-2, 2).map(float)
    inputs = data.draw(arrays("float32", (3, 5), elements=values))
    kernel = data.draw(arrays("float32", (5, 2), elements=values))
    k = data.draw(st.integers(1, 5))
    products = inputs[:, :, None] * kernel
    # A stable sort: of equal products the one of the lower index comes first.
    chosen = np.argsort(-products, axis=1, kind="stable")[:, :k]
    largest = np.take_along_axis(products, chosen, axis=1)
    expected = (np.maximum(largest, 0) if nonnegative else largest).sum(axis=1)
    np.testing.assert_array_equal(largest_contributions(inputs, kernel, k), chosen.transpose(0, 2, 1))
    tensors = keras.ops.convert_to_tensor(inputs), keras.ops.convert_to_tensor(kernel)
    np.testing.assert_allclose(sum_of_largest(*tensors, k, nonnegative), expected, atol=1e-6)


NETWORK = FeatureLevelingNetwork((5, 4), 3, (4,), seed=1)
ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


@hypothesis.settings(few, max_examples=10)
@hypothesis.given(st.data())
def test_the_compact_network_computes_what_the_gated_one_does(data):
    for gate in NETWORK.gates:
        # Closed, half open and open.
        closed = arrays("float32", gate.scaled_log_alpha.shape, elements=st.sampled_from((-4.0, 0.3, 4.0)))
        gate.scaled_log_alpha.assign(data.draw(closed) / gate.learning_rate_multiplier)
    outputs = [keras.ops.convert_to_numpy(model(ROWS)) for model in (NETWORK, NETWORK.compact())]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


counts, shares = st.integers(1, 6), st.floats(0.05, 0.95)
LAYERS = st.one_of(
    st.builds(layers.DynamicKDense, counts, counts, use_bias=st.booleans(), nonnegative=st.booleans()),
    st.builds(layers.DynamicKConv2D, counts, counts, counts, padding=st.sampled_from(("same", "valid"))),
    st.builds(layers.HardConcreteGate, initial_drop_rate=shares, temperature=shares, per_position=st.booleans(), seed=counts),
    st.builds(layers.LabelSensitiveGate, counts, shares),
    st.builds(layers.SparseReconstructionAE, counts, st.lists(counts, min_size=1), num_modules=counts, seed=counts),
    st.builds(layers.XLayer, counts),
)


@few
@hypothesis.given(LAYERS)
def test_a_config_makes_the_same_layer_again(layer):
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert json.dumps(again.get_config()) == json.dumps(layer.get_config()) and again.name == layer.name


@few
@hypothesis.given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5), st.integers(0, 2), st.booleans())
def test_batches_hold_every_example_once(count, batch_size, seed, epoch, shuffle):
    batch_size = min(count, batch_size)
    inputs = np.arange(count, dtype="float32")[:, None]

    def epoch_of(process):
        batches = Batches((inputs, np.arange(count)), batch_size, shuffle=shuffle, seed=seed, process=process)
        for _ in range(epoch):
            batches.on_epoch_end()
        return [batches[number] for number in range(len(batches))]

    whole = epoch_of((0, 1))
    order = np.concatenate([targets for _, targets in whole])
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in whole])[:, 0], order)
    assert len(set(order)) == len(order) == (count // batch_size * batch_size if shuffle else count)
    assert shuffle or (order == np.arange(count)).all()
    again = [targets for _, targets in epoch_of((0, 1))]
    assert all((one == other).all() for one, (_, other) in zip(again, whole, strict=True))
    if batch_size % 2 == 0:
        shares = zip(epoch_of((0, 2)), epoch_of((1, 2)), whole, strict=True)
        assert all(sorted((*one[1], *other[1])) == sorted(both[1]) for one, other, both in shares)


@few
@hypothesis.given(matrices(-(2.0**100), 2.0**100, st.just(3)), st.sampled_from(",;\t"), st.permutations(range(3)))
def test_a_table_comes_back_from_a_csv_file(table, separator, order):
    names = ("age", "income", "height")
    lines = [separator.join(names[column] for column in order)]
    lines += [separator.join(repr(float(row[column])) for column in order) for row in table]
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        found = read_rows(file.name, names, 3)
    assert not found.faults and not found.unused
    np.testing.assert_array_equal(np.asarray(found.rows, "float32"), table)
