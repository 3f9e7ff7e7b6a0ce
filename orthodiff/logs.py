"""Which messages of other libraries are shown."""

from __future__ import annotations

import logging

REMARKS = ("transformers.utils.import_utils", "bitsandbytes.backends.cpu.ops")
"""Who remarks that torchvision is missing, and kernels of 4-bit products on a CPU."""


def quiet_libraries() -> None:
    """Silence the libraries' loading bars, and remarks about parts that are never used here."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    for name in REMARKS:
        logging.getLogger(name).setLevel(logging.ERROR)
