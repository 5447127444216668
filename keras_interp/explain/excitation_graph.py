"""A model's graph as steps, and the backward path of excitation backprop through it."""

import dataclasses
import difflib
import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_interp.explain.excitation_rules import (
    RULES,
    TRANSPARENT,
    is_normalization,
    keeps_signs,
    sign_of,
    through_identity,
    through_weights,
)
from keras_interp.typing import Tensor


@dataclasses.dataclass(eq=False)
class _Step:
    """One call of one layer, from tensors to tensors that have numbers in the whole graph."""

    layer: Any
    node: Any
    inputs: list
    outputs: list

    def __call__(self, values):
        tensors = {id(tensor): value for tensor, value in zip(self.node.input_tensors, values)}
        arguments, options = self.node.arguments.fill_in(tensors)
        return self.layer(*arguments, **options)


@dataclasses.dataclass(eq=False)
class _Link:
    """One application of a rule; where weights are followed by their normalization, of both together."""

    step: _Step
    output: int
    normalization: _Step | None = None

    @property
    def inputs(self) -> list[int]:
        return self.step.inputs

    @property
    def rule(self) -> Any:
        return RULES.get(type(self.step.layer))

    def propagate(self, inputs: list[Tensor], probabilities: Tensor, sign: float) -> list[Tensor]:
        if self.normalization is not None:
            sign = sign * sign_of(self.normalization.layer)
        return self.rule(self.step, inputs, probabilities, sign)

    def check(self, at_start: bool) -> None:
        """Raises for layers for which excitation backprop is undefined."""
        layer = self.step.layer
        if self.rule is None:
            supported = ", ".join(sorted(cls.__name__ for cls in RULES))
            raise ValueError(
                f"Excitation backprop is not defined for the layer {layer.name!r}. Supported are {supported}. "
                f"Received: {type(layer).__name__}"
            )
        for step in filter(None, (self.step, self.normalization)):
            channels_first = getattr(step.layer, "data_format", None) == "channels_first"
            last_axis = len(step.node.input_tensors[0].shape) - 1
            if channels_first or (is_normalization(step.layer) and step.layer.axis not in (-1, last_axis)):
                raise ValueError(f"Excitation backprop takes channels last. Received: channels first in {step.layer.name!r}")
        keeps = type(layer) is not layers.Softmax and keeps_signs(getattr(layer, "activation", None))
        if not (at_start or keeps):
            raise ValueError(
                "Excitation backprop needs activations that keep signs, as ReLU; another one may stand in `start` alone. "
                f"Received: {getattr(layer, 'activation', layer)} in the layer {layer.name!r}"
            )


class Graph:
    """The calls of all layers in topological order, those inside nested models included; the model's input is tensor 0."""

    def __init__(self, model: keras.Model) -> None:
        if _functional(model) is None:
            raise TypeError(
                "The model must be functional, or sequential and built, so that its layers can be followed. "
                f"Received: {type(model).__name__}"
            )
        if len(model.inputs) != 1:
            raise ValueError(f"The model must have one input. Received: {len(model.inputs)} inputs")
        self.input = 0
        self.steps = []
        self.shapes = {0: tuple(model.inputs[0].shape)}
        self.names = {}
        self._numbers = itertools.count(1)
        self._unroll(_functional(model), [0])

    def _unroll(self, model, inputs):
        """Adds the steps of a model that is called on the tensors of these numbers; returns the numbers of its outputs."""
        tokens = {id(tensor): token for tensor, token in zip(model.inputs, inputs)}
        for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
            for node in nodes:
                layer = node.operation
                if not node.is_input:
                    arguments = [tokens[id(tensor)] for tensor in node.input_tensors]
                    if _functional(layer) is not None:
                        outputs = self._unroll(_functional(layer), arguments)
                    else:
                        outputs = [next(self._numbers) for _ in node.output_tensors]
                        self.steps.append(_Step(layer, node, arguments, outputs))
                        self.shapes.update((token, tuple(t.shape)) for token, t in zip(outputs, node.output_tensors))
                    tokens.update(zip(map(id, node.output_tensors), outputs))
                self.names.setdefault(layer.name, []).extend(tokens[id(tensor)] for tensor in node.output_tensors)
        return [tokens[id(tensor)] for tensor in model.outputs]

    def reached_from(self, token: int) -> set[int]:
        """The numbers of the tensors that depend on this one, itself included."""
        reached = {token}
        for step in self.steps:
            if reached.intersection(step.inputs):
                reached.update(step.outputs)
        return reached

    def steps_before(self, token: int) -> list[_Step]:
        """Steps that compute this tensor, in order."""
        needed, steps = {token}, []
        for step in reversed(self.steps):
            if needed.intersection(step.outputs):
                needed.update(step.inputs)
                steps.append(step)
        return steps[::-1]

    def find(self, argument: str, name: str) -> int:
        """The number of the output of the layer of a name."""
        if name not in self.names:
            nearest = difflib.get_close_matches(str(name), self.names, n=5, cutoff=0.0)
            raise ValueError(f"`{argument}` must be the name of a layer, such as {nearest}. Received: {argument}={name!r}")
        if len(self.names[name]) > 1:
            raise ValueError(
                f"`{argument}` must be a layer with one output that is called once. "
                f"Received: {argument}={name!r} with {len(self.names[name])} outputs"
            )
        return self.names[name][0]


def _functional(layer):
    """The graph of a layer that is a model, or None."""
    graph = layer._functional if isinstance(layer, keras.Sequential) else layer
    return graph if isinstance(graph, keras.Model) and hasattr(graph, "_nodes_by_depth") else None


def links(steps: Sequence[_Step], start: int, end: int, reached: set[int]) -> list[_Link]:
    """Links that probability passes from `start` to `end`, from the top."""
    producers = {token: step for step in steps for token in step.outputs}
    tokens, links = {start}, []
    for step in reversed(steps):
        if not (tokens.intersection(step.outputs) and reached.intersection(step.inputs)):
            continue
        below = producers.get(step.inputs[0]) if is_normalization(step.layer) and step.inputs[0] != end else None
        if (
            below is not None
            and RULES.get(type(below.layer)) is through_weights
            and below.layer.activation in (None, keras.activations.linear)
        ):
            links.append(_Link(below, step.outputs[0], step))
        else:
            links.append(_Link(step, step.outputs[0]))
        tokens.update(reached.intersection(links[-1].inputs))
    return links


def weights_of(start: int, links: Sequence[_Link]) -> _Link | None:
    """The link with the weights of the neurons of `start`, or None."""
    by_output = {link.output: link for link in links}
    link = by_output[start]
    while link.rule is not through_weights:
        if link.rule is not through_identity and type(link.step.layer) not in TRANSPARENT:
            return None
        link = by_output.get(link.inputs[0])
        if link is None:
            return None
    return link


def float32_twins(steps: Sequence[_Step]) -> list[tuple]:
    """Replaces the layers that compute in another dtype; returns the pairs of a layer and its copy in float32."""
    twins = {}
    for step in steps:
        layer = step.layer
        if isinstance(layer, keras.Layer) and layer.compute_dtype != "float32":
            if id(layer) not in twins:
                twin = type(layer).from_config({**layer.get_config(), "dtype": "float32"})
                if layer.weights:
                    twin.build_from_config(layer.get_build_config())
                twins[id(layer)] = layer, twin
            step.layer = twins[id(layer)][1]
    return list(twins.values())
