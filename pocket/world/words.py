"""The classes that the shipped model learns first: those with a clear shape or many individuals."""

from __future__ import annotations

PRETRAINED = (
    "armchair", "chair", "sofa", "stool", "bed", "lamp", "street lamp", "plant", "cactus",
    "tree", "car", "truck", "bus", "bike", "scooter", "dog", "cat", "horse", "rabbit",
    "teddy bear", "toy train", "snowman", "cup", "kettle", "jug", "vase", "bowl", "bottle",
    "glass", "candle", "sneaker", "shoe", "hat", "helmet", "backpack", "handbag", "suitcase",
    "glasses", "umbrella", "clock", "watch", "camera", "phone", "laptop", "tv", "guitar",
    "piano", "hamburger", "cake", "ball", "skateboard", "wheelbarrow", "tent", "boat", "plane",
    "table", "desk", "bench", "bookcase", "cabinet", "fridge", "toaster", "coffee machine",
    "washing machine", "trash can", "mailbox", "fire hydrant", "barrel", "box", "dog house",
)  # fmt: skip
