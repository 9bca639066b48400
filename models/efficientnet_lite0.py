"""EfficientNet-Lite0 in plain PyTorch: the image classifier behind the zoo's `efficientnet_lite0`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIZE = 224
"""Height and width in pixels at which the network was trained."""

_BN_EPS = 1e-3
_STAGES = (  # blocks, kernel, first stride, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """Convolve without bias, padded as TensorFlow's SAME: an odd pixel of padding goes to the bottom and right.

    The weights were trained so; PyTorch's symmetric padding would shift every strided layer by one pixel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in input.shape[-2:])
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(functional.pad(input, padding))


class MBConv(nn.Module):
    """Apply one inverted bottleneck: expand 1x1, depthwise, project 1x1, and add the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, inner, 1)
            self._bn0 = nn.BatchNorm2d(inner, eps=_BN_EPS)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=_BN_EPS)
        self._project_conv = SameConv2d(inner, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_BN_EPS)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, input: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._expand_conv(input))) if self.expands else input
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + input if self.adds_input else x


class EfficientNetLite0(nn.Module):
    """Classify images into the 1,000 ImageNet classes.

    Input: float32 [batch, 3, height, width], RGB, normalised by `preprocess`; trained at 224 x 224.
    Output: float32 logits [batch, 1000]. Module names are those of the checkpoint, so that it loads strictly.

    Source
    ------
    Tan and Le, "EfficientNet", ICML 2019, table 1 (B0); the Lite changes (no squeeze-and-excitation, ReLU6 for
    swish) from github.com/tensorflow/tpu, models/official/efficientnet/lite.

    Examples
    --------
    >>> EfficientNetLite0().eval()(torch.zeros(1, 3, 224, 224)).shape
    torch.Size([1, 1000])
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, stride=2)
        self._bn0 = nn.BatchNorm2d(32, eps=_BN_EPS)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = SameConv2d(_STAGES[-1][-1], 1280, 1)
        self._bn1 = nn.BatchNorm2d(1280, eps=_BN_EPS)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, input: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(input)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(x.mean(dim=(-2, -1)))
        return logits


def preprocess(image: Tensor) -> Tensor:
    """Normalise RGB images as the network expects them: (value - 127) / 128.

    Parameters
    ----------
    image : uint8 [..., 3, height, width]

    Returns
    -------
    float32 tensor of the same shape, in [-0.992, 1].

    Source
    ------
    github.com/tensorflow/tpu, models/official/efficientnet/lite: MEAN_RGB 127.0, STDDEV_RGB 128.0.

    Examples
    --------
    >>> preprocess(torch.tensor([127, 255], dtype=torch.uint8)).tolist()
    [0.0, 1.0]
    """
    if image.dtype != torch.uint8:
        raise TypeError(f"image of {image.dtype}, expected torch.uint8 values 0 to 255")
    return (image.float() - 127.0) / 128.0


def _blocks() -> Iterator[MBConv]:
    """Yield the 16 bottlenecks in order; only the first of a stage strides and changes the channels."""
    channels = 32
    for count, kernel, stride, expansion, outputs in _STAGES:
        for index in range(count):
            yield MBConv(channels, outputs, kernel, stride if index == 0 else 1, expansion)
            channels = outputs
