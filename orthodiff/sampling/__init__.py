"""From a request to images. Knows no files and no adapters.

Whatever adapter is attached to (or merged into) the base's UNet takes part by itself.
"""

from orthodiff.sampling.denoise import OnStep, generate
from orthodiff.sampling.request import GenerateRequest

__all__ = ["GenerateRequest", "OnStep", "generate"]
