"""Make images that follow the edges of a photo: `python examples/control.py`."""

from pathlib import Path

from PIL import Image

import orthodiff
from orthodiff import control
from orthodiff.components.compose import load_all

PHOTO = Path(__file__).parent.parent / "assets/subjects/teapot/00.png"
PROMPTS = ("a photo of a red teapot on the beach", "a photo of a blue teapot in the snow")


def main(output: Path = Path("runs/control"), steps: int = 25) -> None:
    """Save the control image, and one image per prompt that follows it."""
    base = orthodiff.load_base("pocket")
    adapters = load_all(base, [Path("pocket-canny")])  # folders of `orthodiff train control`
    assert adapters.control is not None

    request = orthodiff.GenerateRequest(PROMPTS, seeds=(0, 1), num_inference_steps=steps)
    edges, _ = control.compute(Image.open(PHOTO).convert("RGB"), (64, 64), control.Canny())
    steering = control.Steering(adapters.control, [edges] * len(PROMPTS), strength=1.0)
    images = orthodiff.generate(base, request, steering=steering)

    output.mkdir(parents=True, exist_ok=True)
    edges.save(output / "edges.png")
    for number, image in enumerate(images):
        image.save(output / f"{number}.png")


if __name__ == "__main__":
    main()
