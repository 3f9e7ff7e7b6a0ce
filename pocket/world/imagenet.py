"""Which of ImageNet's 1,000 classes name which class of the world, where ImageNet has one.

The numbers are those of ILSVRC 2012; a dog is any of its 118 breeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

CLASSES: dict[str, tuple[int, ...]] = {
    "chair": (423, 559, 765, 857),
    "sofa": (831,),
    "bed": (520, 564, 831),
    "lamp": (619, 846),
    "plant": (738,),
    "car": (436, 468, 479, 511, 609, 627, 656, 661, 717, 751, 817),
    "truck": (555, 569, 656, 675, 717, 864, 867),
    "bus": (654, 705, 779, 874),
    "bike": (444, 671, 870),
    "scooter": (670, 665),
    "dog": tuple(range(151, 269)),
    "cat": (281, 282, 283, 284, 285),
    "horse": (339,),
    "rabbit": (330, 331, 332),
    "teddy bear": (850,),
    "cup": (504, 968, 967),
    "kettle": (505, 550, 849),
    "jug": (505, 647, 725, 849, 899, 901),
    "vase": (883, 725, 738),
    "bowl": (659, 809),
    "bottle": (440, 720, 737, 898, 907),
    "glass": (441, 572, 966),
    "candle": (470,),
    "sneaker": (770,),
    "shoe": (502, 514, 630, 770),
    "hat": (439, 515, 808),
    "helmet": (518, 560),
    "backpack": (414,),
    "handbag": (636, 748),
    "glasses": (836, 837),
    "umbrella": (879,),
    "clock": (409, 530, 892),
    "watch": (531,),
    "camera": (732, 759),
    "phone": (487, 528),
    "laptop": (620, 681),
    "tv": (664, 782, 851),
    "guitar": (402, 546),
    "piano": (579, 881),
    "hamburger": (933,),
    "ball": (430, 805),
    "wheelbarrow": (428,),
    "tent": (672,),
    "boat": (472, 576, 625, 814),
    "plane": (404, 895, 908),
    "table": (526, 532, 736),
    "desk": (526, 527),
    "bench": (703,),
    "bookcase": (453, 454),
    "cabinet": (493, 495, 553, 894),
    "fridge": (760,),
    "toaster": (859,),
    "coffee machine": (550,),
    "washing machine": (897,),
    "trash can": (412, 463),
    "mailbox": (637,),
    "barrel": (427, 756),
    "box": (478, 492, 519),
    "racket": (752,),
    "microwave": (651,),
}
"""Class word -> ImageNet's numbers."""


def named_share(words: Sequence[str], labels: Tensor) -> float:
    """Share of images with a label of their class among `labels` `(N, k)`.

    Images of classes that ImageNet lacks are left out.

    Raises:
        ValueError: ImageNet has none of the words.
    """
    rows = [
        (word, row) for word, row in zip(words, labels.tolist(), strict=True) if word in CLASSES
    ]
    if not rows:
        raise ValueError("ImageNet has none of these classes.")
    return sum(bool(set(row) & set(CLASSES[word])) for word, row in rows) / len(rows)
