"""The network is EfficientNet-Lite0: right size, right padding, and it sees what is in a photograph."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.efficientnet_lite0 import IMAGE_SIZE, EfficientNetLite0, SameConv2d, preprocess
from models.load import LoadedModel

MILITARY_UNIFORM = 652


def test_parameters_are_those_of_the_published_network() -> None:
    network = EfficientNetLite0()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    assert len(network._blocks) == 16


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_tensorflows_same(size: int, kernel: int, stride: int) -> None:
    """Output o reads input o * stride - top + k, where top is half of the total padding rounded down, by loops."""
    convolution = SameConv2d(1, 1, kernel, stride)
    image = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    outputs = -(-size // stride)
    top = max((outputs - 1) * stride + kernel - size, 0) // 2
    weight = convolution.weight[0, 0]
    expected = torch.zeros(outputs, outputs)
    for y in range(outputs):
        for x in range(outputs):
            for i in range(kernel):
                for j in range(kernel):
                    row, column = y * stride - top + i, x * stride - top + j
                    if 0 <= row < size and 0 <= column < size:
                        expected[y, x] += weight[i, j] * image[0, 0, row, column]
    torch.testing.assert_close(convolution(image)[0, 0], expected)


def test_preprocess_takes_bytes_only() -> None:
    image = torch.tensor([0, 127, 255], dtype=torch.uint8)
    assert preprocess(image).tolist() == [-127 / 128, 0.0, 1.0]
    with pytest.raises(TypeError, match=r"torch.float32, expected torch.uint8"):
        preprocess(image.float())


def test_checkpoint_fits_strictly(efficientnet_lite0: LoadedModel) -> None:
    from safetensors.torch import load_file

    from models import fetch

    stored = load_file(fetch.cache_dir() / "efficientnet_lite0" / fetch.WEIGHTS)
    state = efficientnet_lite0.module.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[key], stored[key]) for key in stored)


def test_noise_gives_finite_logits_that_depend_on_it(efficientnet_lite0: LoadedModel) -> None:
    images = torch.randint(0, 256, (2, 3, IMAGE_SIZE, IMAGE_SIZE), generator=torch.Generator().manual_seed(0))
    logits = efficientnet_lite0.module(preprocess(images.to(torch.uint8)))
    assert logits.shape == (2, 1000) and torch.isfinite(logits).all()
    assert logits.std(dim=1).min() > 0.5 and not torch.allclose(logits[0], logits[1])


def test_photograph_of_an_officer_shows_a_uniform(efficientnet_lite0: LoadedModel) -> None:
    cbook = pytest.importorskip("matplotlib.cbook", reason="the photograph comes with matplotlib")
    image_module = pytest.importorskip("PIL.Image")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        pixels = torch.from_numpy(np.array(image_module.open(file).convert("RGB"))).permute(2, 0, 1)[None]
    square = pixels[:, :, 44:556].float()  # the middle 512 x 512
    small = functional.interpolate(square, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
    probabilities = efficientnet_lite0.module(preprocess(small.round().to(torch.uint8))).softmax(dim=1)[0]
    assert probabilities.argmax() == MILITARY_UNIFORM and probabilities.max() > 0.3
