"""The parts of a forward pass, each against PyTorch's."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nn

torch = pytest.importorskip("torch", reason="it is what the parts are compared with")
F = torch.nn.functional


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def numbers(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def first(x):
    """Channels last → PyTorch's channels second."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def last(x):
    return np.moveaxis(x.numpy(), 1, -1)


def same(found, expected, off=1e-5):
    expected = np.asarray(expected)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < off


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (3, 1), (5, 1), (2, 2), (3, 2), (1, 2)])
@pytest.mark.parametrize("size", [(6, 6), (12, 4), (2, 2)])
def test_convolution(rng, side, stride, size):
    x, bias = numbers(rng, 2, *size, 7), numbers(rng, 5)
    weight = numbers(rng, 5, 7, side, side) / side
    expected = F.conv2d(first(x), *map(torch.from_numpy, (weight, bias)), stride=stride, padding=(side - 1) // 2)
    layer = nn.Tensors({"a.weight": weight, "a.bias": bias}).convolution("a", 7, 5, side)
    same(nn.conv2d(x, *layer, stride=stride), last(expected))


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 4, 7), (2, 3, 4, 7)])
def test_linear(rng, shape):
    x, weight, bias = numbers(rng, *shape), numbers(rng, 5, 7), numbers(rng, 5)
    same(nn.linear(x, weight, bias), F.linear(*map(torch.from_numpy, (x, weight, bias))))


@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("groups", [1, 4, 16])
def test_group_norm(rng, groups, offset):
    x, weight, bias = numbers(rng, 2, 6, 4, 16) + np.float32(offset), numbers(rng, 16), numbers(rng, 16)
    expected = F.group_norm(first(x), groups, *map(torch.from_numpy, (weight, bias)))
    same(nn.group_norm(x, weight, bias, groups), last(expected), 1e-5 + 1e-6 * offset)


def test_layer_norm(rng):
    x, weight, bias = 3 + numbers(rng, 2, 9, 48), numbers(rng, 48), numbers(rng, 48)
    same(
        nn.layer_norm(x, weight, bias), F.layer_norm(torch.from_numpy(x), (48,), *map(torch.from_numpy, (weight, bias)))
    )


def test_norms_of_what_is_even():
    x, one, zero = np.full((1, 4, 4, 8), 5, np.float32), np.ones(8, np.float32), np.zeros(8, np.float32)
    same(nn.group_norm(x, one, zero, 2), np.zeros(x.shape))
    same(nn.layer_norm(x, one, zero), np.zeros(x.shape))


EXTREMES = (-3e38, -1e20, -1e5, -200.0, -90.0, 0.0, 90.0, 200.0, 1e5, 1e20)


def test_silu():
    x = np.concatenate([np.linspace(-20, 20, 4001), EXTREMES]).astype(np.float32)
    scale = np.maximum(np.abs(x), 1)
    same(nn.silu(x) / scale, F.silu(torch.from_numpy(x)).numpy() / scale, 1e-6)


def test_gelu():
    x = np.concatenate([np.linspace(-12, 12, 90_001), EXTREMES]).astype(np.float32)
    expected = [value * math.erfc(-value / math.sqrt(2)) / 2 for value in x.astype(float)]
    scale = np.maximum(np.abs(x), 1)
    with np.errstate(over="ignore"):
        found = nn.gelu(x.reshape(1, -1))[0]
    same(found / scale, expected / scale, 4e-6)


@pytest.mark.parametrize(("heads", "places", "strength"), [(1, 5, 1), (4, 36, 1), (4, 9, 100)])
def test_attention(rng, heads, places, strength):
    qkv = numbers(rng, 2, places, 3 * 32) * np.float32(strength)
    q, k, v = torch.from_numpy(qkv).reshape(2, places, 3, heads, 32 // heads).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, places, 32)
    same(nn.attention(qkv, heads), expected, 1e-5 * strength)


def test_shuffled_and_back(rng):
    x = numbers(rng, 2, 6, 12, 5)
    small = nn.unshuffle(x, 3)
    same(small, last(F.pixel_unshuffle(first(x), 3)))
    same(nn.shuffle(small, 3), x)
    same(nn.shuffle(small, 3), last(F.pixel_shuffle(first(small), 3)))


def test_doubled(rng):
    x = numbers(rng, 2, 3, 5, 4)
    same(nn.doubled(x), last(F.interpolate(first(x), scale_factor=2.0, mode="nearest")))


class TestTensors:
    def held(self):
        return {name: np.zeros(shape, np.float32) for name, shape in {"a.weight": (3, 2), "a.bias": (3,)}.items()}

    def test_each_is_taken_once(self):
        tensors = nn.Tensors(self.held())
        with pytest.raises(ValueError, match=r"a\.weight is not known"):
            tensors.nothing_left()
        weight, bias = tensors.linear("a", 2, 3)
        assert (weight.shape, bias.shape) == ((3, 2), (3,))
        tensors.nothing_left()
        with pytest.raises(ValueError, match=r"a\.bias is missing"):
            tensors.under("a").take("bias", 3)

    def test_what_is_of_another_shape_does_not_fit(self):
        with pytest.raises(ValueError, match=r"a\.weight is of shape \(3, 2\), not \(2, 3\)"):
            nn.Tensors(self.held()).linear("a", 3, 2)


class TestOneThread:
    def test_holds_while_anybody_is_inside(self):
        blas = nn._openblas()
        if blas is None:
            pytest.skip("numpy has another library here")
        get, put = blas
        before = get()
        put(2)
        try:
            with nn.one_thread():
                with nn.one_thread():
                    assert get() == 1
                assert get() == 1
            assert get() == 2
            with pytest.raises(KeyError), nn.one_thread():
                raise KeyError
            assert get() == 2
        finally:
            put(before)

    def test_the_last_bits_are_the_same_from_any_thread(self, rng):
        x, layer = numbers(rng, 288, 384), (numbers(rng, 1536, 384), numbers(rng, 1536))

        def work(_):
            with nn.one_thread():
                return nn.linear(x, *layer).tobytes()

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(work, range(24)))) == 1

    def test_another_library_is_left_alone(self, monkeypatch):
        monkeypatch.setattr(nn, "_openblas", lambda: None)
        with nn.one_thread():
            pass
