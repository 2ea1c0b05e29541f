"""Networks by hand: the same numbers from torch's functions and the networks' own weights."""

import pytest
import torch
from torch.nn import functional as F

from ppl_models.captioner import Captioner
from ppl_models.hard_attention import Glimpser
from ppl_models.language import LogBilinear, Recurrent, WordScores
from ppl_models.networks import ConvDecoder, ConvEncoder, Flatten, image_decoder, image_encoder, mlp

SHAPE = (3, 7, 10)


def shapes(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def test_an_mlp_has_an_activation_between_its_layers():
    net, x = mlp([4, 5, 6, 2], torch.nn.Sigmoid), torch.randn(3, 4)
    one, _, two, _, three = net
    assert torch.equal(net(x), three(two(one(x).sigmoid()).sigmoid()))
    assert isinstance(mlp([4, 5, 2])[1], torch.nn.Tanh)


def test_flatten_keeps_leading_dimensions():
    x = torch.arange(48.0).reshape(2, 4, 3, 2)
    assert torch.equal(Flatten((3, 2))(x), x.reshape(2, 4, 6))
    assert torch.equal(Flatten(())(x), x[..., None])


def test_image_networks_are_mlps_of_pixels():
    x, z = torch.randn(4, 2, 3), torch.randn(4, 5)
    encoder, decoder = image_encoder((2, 3), [7], 4), image_decoder((2, 3), [7], 5)
    assert torch.equal(encoder(x), encoder[1](x.reshape(4, 6)))
    assert torch.equal(decoder(z), decoder[0](z).reshape(4, 2, 3))
    assert [p.shape[0] for p in encoder.parameters()] == [7, 7, 4, 4]
    assert [p.shape[0] for p in decoder.parameters()] == [7, 7, 6, 6]


def test_the_convolutions_halve_twice():
    x, net = torch.randn(2, 5, *SHAPE), ConvEncoder(SHAPE, 4, 6)
    first, _, second, *_ = net.convs
    features = x.reshape(10, *SHAPE)
    for conv in (first, second):
        features = F.conv2d(features, conv.weight, conv.bias, stride=2, padding=1).clamp(min=0)
    expected = F.linear(features.reshape(10, -1), net.head.weight, net.head.bias)
    assert torch.allclose(net(x), expected.reshape(2, 5, 6), rtol=1e-12)
    assert shapes(net) == {
        "convs.0.weight": (4, 3, 3, 3), "convs.0.bias": (4,), "convs.2.weight": (8, 4, 3, 3),
        "convs.2.bias": (8,), "head.weight": (6, 8 * 2 * 3), "head.bias": (6,),
    }  # fmt: skip


def test_the_transposed_convolutions_double_twice_and_are_cropped():
    z, net = torch.randn(2, 5, 6), ConvDecoder(SHAPE, 4, 6)
    _, first, _, second = net.convs
    image = F.linear(z, net.head[0].weight, net.head[0].bias).reshape(10, 8, 2, 3)
    for conv in (first, second):
        image = F.conv_transpose2d(image.clamp(min=0), conv.weight, conv.bias, stride=2, padding=1)
    expected = image[:, :, :7, :10].reshape(2, 5, *SHAPE)
    assert torch.allclose(net(z), expected, rtol=1e-12)
    assert shapes(net) == {
        "head.0.weight": (48, 6), "head.0.bias": (48,), "convs.1.weight": (8, 4, 4, 4),
        "convs.1.bias": (4,), "convs.3.weight": (4, 3, 4, 4), "convs.3.bias": (3,),
    }  # fmt: skip


def test_the_captioner_s_layers_are_the_paper_s():
    """Widths, and biases where another layer beside it has none."""
    found = shapes(Captioner(5, 7, embedding=4, hidden=3, attention=2))
    widths = {
        "first_h": (3, 5), "first_c": (3, 5), "key": (2, 5), "query": (2, 3), "score": (1, 2),
        "gate": (1, 3), "word_in": (12, 4), "look_in": (12, 5), "state_in": (12, 3),
        "state_out": (4, 3), "look_out": (4, 5), "say": (7, 4),
    }  # fmt: skip
    unbiased = {"query", "score", "look_in", "state_in", "look_out"}
    expected = {f"{name}.weight": shape for name, shape in widths.items()}
    expected |= {f"{name}.bias": widths[name][:1] for name in widths.keys() - unbiased}
    assert found == expected | {"embed.weight": (7, 4)}


def test_a_glimpser_s_step_by_hand():
    net, a, state = Glimpser(4, 3, 2, hidden=5), torch.randn(6, 3, 4), torch.randn(6, 5)
    s = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 2]), 3).double()
    seen = a[torch.arange(6), s.argmax(-1)]
    expected = torch.tanh(net.keep(state) + net.read(seen) + s @ net.place.weight.T)
    assert torch.allclose(net.step(state, a, s), expected, rtol=1e-12)
    assert torch.equal(net.start(a), torch.zeros(6, 5))
    assert shapes(net)["place.weight"] == (5, 3)
    assert "place.bias" not in shapes(net)


@pytest.mark.parametrize("sparse", [False, True])
def test_scores_are_products_and_a_bias(sparse):
    first = torch.tensor([0.5, -1.0, 2.0, 0.1])
    net, h = WordScores(first, 3, sparse), torch.randn(2, 5, 3)
    every = torch.einsum("btd,vd->btv", h, net.u) + first
    assert torch.allclose(net(h), every, rtol=1e-12)
    own, row, shared = (torch.randint(4, shape) for shape in ((2, 5, 6), (2, 6), (6,)))
    assert torch.allclose(net(h, own), every.gather(-1, own), rtol=1e-12)
    assert torch.allclose(net(h, row), every.gather(-1, row[:, None].expand(2, 5, 6)), rtol=1e-12)
    assert torch.allclose(net(h, shared), every[..., shared], rtol=1e-12)
    net(h, own).sum().backward()
    assert net.u.grad.is_sparse == net.b.grad.is_sparse == sparse


def unknown(*shape, **kind):
    """What memory held: nothing that may stay."""
    return torch.full(shape[0] if isinstance(shape[0], tuple) else shape, torch.nan, **kind)


@pytest.mark.parametrize(
    "build",
    [
        lambda: WordScores(torch.zeros(500), 40),
        lambda: LogBilinear(500, 3, 40),
        lambda: Recurrent(500, 40),
    ],
)
def test_first_words_are_small(build, monkeypatch):
    """20,000 numbers of deviation .1: its standard error is .5 %; none is what memory held."""
    monkeypatch.setattr(torch, "empty", unknown)
    table = next(p for p in build().parameters() if p.shape == (500, 40))
    assert abs(table.std() / 0.1 - 1) < 0.025
    assert abs(table.mean()) < 4.5 * 0.1 / 20_000**0.5


@pytest.mark.parametrize("sparse", [False, True])
def test_the_log_bilinear_guess_begins_as_the_context_s_mean(sparse):
    net, c = LogBilinear(6, 3, 4, sparse), torch.randint(6, (2, 5, 3))
    assert torch.allclose(net(c[0]), net.r[c[0]].mean(-2), rtol=1e-12)
    assert torch.allclose(net(c), net.r[c].mean(-2), rtol=1e-12)
    with torch.no_grad():
        net.C.normal_()
    expected = sum(net.C[i] * net.r[c[..., i]] for i in range(3))
    assert torch.allclose(net(c), expected, rtol=1e-12)
    net(c).sum().backward()
    assert net.r.grad.is_sparse == sparse


def test_an_lstm_reads_on_from_its_state():
    net, c = Recurrent(6, 4, dropout=0.5).eval(), torch.randint(6, (2, 7))
    whole = net(c)
    expected, _ = net.lstm(net.r[c])
    assert torch.allclose(whole, expected, rtol=1e-12)
    first, state = net.read(c[:, :3])
    assert torch.allclose(torch.cat([first, net.read(c[:, 3:], state)[0]], 1), whole, rtol=1e-12)
    dropped = (net.train()(c) == 0).double().mean()
    assert 0.1 < dropped < 0.9
    assert (Recurrent(6, 4)(c) != 0).all()
