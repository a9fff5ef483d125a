"""The architecture against the papers' figures."""

from __future__ import annotations

import math

import pytest

from models.mobilenet import Layer, Network, cost_ratio, divisible, main, v1, v2, v3_large, v3_small


@pytest.mark.parametrize(
    ("network", "parameters_m", "multiply_adds_m"),
    [
        # https://arxiv.org/abs/1704.04861 tables 6 and 7
        (v1(1.0, 224), 4.2, 569),
        (v1(0.75, 224), 2.6, 325),
        (v1(0.5, 224), 1.3, 149),
        (v1(0.25, 224), 0.5, 41),
        (v1(1.0, 192), 4.2, 418),
        (v1(1.0, 160), 4.2, 290),
        (v1(1.0, 128), 4.2, 186),
        # https://arxiv.org/abs/1801.04381 table 4
        (v2(1.0, 224), 3.4, 300),
        # The paper prints 6.9 M for 1.4, which no counting of its own table 2 gives; the
        # authors' page has 6.06 M, and 582 M multiply-adds where the paper has 585 M:
        # https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet
        (v2(1.4, 224), 6.06, 585),
        # The same page, for the minimalistic variants.
        (v3_large(1.0, 224), 3.9, 209),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_parameters_and_multiply_adds_are_the_papers(
    network: Network, parameters_m: float, multiply_adds_m: float
) -> None:
    # To half a unit of what is printed and, since the papers cut where others round, a bit.
    assert network.parameters / 1e6 == pytest.approx(parameters_m, rel=0.022, abs=0.05)
    assert network.multiply_adds / 1e6 == pytest.approx(multiply_adds_m, rel=0.006)


def test_parameters_of_v3_small() -> None:
    assert v3_small(1.0, 224).parameters / 1e6 == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(("inputs", "outputs", "side"), [(32, 64, 112), (512, 512, 14)])
def test_a_separable_layer_costs_one_nth_and_a_ninth(inputs: int, outputs: int, side: int) -> None:
    standard = Layer("standard", "standard", side, inputs, outputs, kernel=3)
    depthwise = Layer("depthwise", "depthwise", side, inputs, inputs, kernel=3)
    pointwise = Layer("pointwise", "pointwise", side, inputs, outputs)
    # D_K · D_K · M · N · D_F · D_F against D_K · D_K · M · D_F · D_F + M · N · D_F · D_F
    assert standard.multiply_adds == 9 * inputs * outputs * side * side
    separable = depthwise.multiply_adds + pointwise.multiply_adds
    assert separable / standard.multiply_adds == pytest.approx(1 / outputs + 1 / 9)
    assert cost_ratio(outputs) == pytest.approx(separable / standard.multiply_adds)
    assert (depthwise.weights + pointwise.weights) / standard.weights == pytest.approx(
        cost_ratio(outputs)
    )


def test_v1_is_depthwise_separable_from_the_second_layer_on_and_adds_nothing() -> None:
    kinds = [layer.kind for layer in v1().layers]
    assert kinds == ["standard", *["depthwise", "pointwise"] * 13, "pool", "dense"]
    assert not any(layer.adds for layer in v1().layers)


def test_pointwise_layers_do_nearly_all_the_work_of_v1() -> None:
    # https://arxiv.org/abs/1704.04861 table 2: 94.86 % of multiply-adds, 74.59 % of parameters
    pointwise = [layer for layer in v1().layers if layer.kind == "pointwise"]
    work = sum(layer.multiply_adds for layer in pointwise) / v1().multiply_adds
    weights = sum(layer.weights for layer in pointwise) / v1().parameters
    assert work == pytest.approx(0.9486, abs=0.001)
    assert weights == pytest.approx(0.7459, abs=0.002)


@pytest.mark.parametrize("network", [v2(), v2(0.35, 96), v3_small(), v3_large()])
def test_a_residual_joins_linear_bottlenecks_of_the_same_shape(network: Network) -> None:
    layers = {layer.name: layer for layer in network.layers}
    sums = [layer for layer in network.layers if layer.adds]
    assert sums
    for layer in sums:
        before = layers[layer.adds]
        assert (before.side_out, before.outputs) == (layer.side_out, layer.outputs)
        assert layer.kind == "pointwise"
        assert not layer.activation
        block = layer.name.rpartition("_")[0]
        assert layers[f"{block}_depthwise"].stride == 1


def test_v2_has_ten_residuals() -> None:
    # Repeats less one, over the rows of table 2: 0 + 1 + 2 + 3 + 2 + 2 + 0
    assert sum(bool(layer.adds) for layer in v2().layers) == 10


def test_resolution_shrinks_work_by_its_square_and_no_parameter() -> None:
    assert v1(1.0, 128).parameters == v1(1.0, 256).parameters
    assert v1(1.0, 128).multiply_adds == pytest.approx(v1(1.0, 256).multiply_adds / 4, rel=0.01)


def test_layers_fit_each_other() -> None:
    for network in (v1(0.25, 96), v2(1.3, 192), v3_small(0.75, 128), v3_large()):
        for one, next_one in zip(network.layers, network.layers[1:], strict=False):
            assert next_one.side == one.side_out
            assert next_one.inputs == one.outputs


@pytest.mark.parametrize(
    ("channels", "rounded"), [(32, 32), (33, 32), (36, 40), (11.2, 16), (3, 8), (44.8, 48)]
)
def test_widths_are_multiples_of_eight_and_never_a_tenth_less(
    channels: float, rounded: int
) -> None:
    assert divisible(channels) == rounded
    assert math.fmod(rounded, 8) == 0


def test_the_command_prints_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["v2", "--alpha", "0.5", "--size", "96", "--classes", "10"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1].startswith("MobileNetV2 0.5-96: 0.68 M parameters, 18 M multiply-adds")
    assert any(line.endswith("+ block_1_project") for line in out)


def test_the_command_refuses_what_is_no_network() -> None:
    with pytest.raises(SystemExit):
        main(["v1", "--size", "1"])
