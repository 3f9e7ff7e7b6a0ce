"""Kinds of control image: computed where they can be, checked where given, resized unharmed."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from orthodiff.control import (
    CONDITIONS,
    Canny,
    Depth,
    Landmarks,
    Scribble,
    Segmentation,
    compute,
    condition_of,
    fit,
    overlay,
    ready,
    to_tensor,
)
from orthodiff.control.conditions.annotators import open_model
from orthodiff.control.conditions.palettes import PALETTES, ade20k_names, palette
from orthodiff.control.conditions.segmentation import UNKNOWN
from orthodiff.errors import UserError
from orthodiff.io.images import open_control_image
from tests.tiny import write_depth_model


def photo(side=64):
    """A disc and a box on a gradient."""
    ramp = np.linspace(40, 90, side, dtype=np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (side, 1))] * 3, -1))
    draw = ImageDraw.Draw(image)
    draw.ellipse((side * 0.1, side * 0.1, side * 0.5, side * 0.5), fill=(250, 220, 30))
    draw.rectangle((side * 0.6, side * 0.55, side * 0.9, side * 0.95), fill=(20, 30, 220))
    return image


def face(side=256):
    """68 points on circles, as good as any."""
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    return side / 2 + side / 3 * np.stack([np.cos(turn), np.sin(turn)], 1)


def good(name):
    """A control image of each kind that must be taken."""
    if name == "segmentation":
        return Segmentation().paint(np.indices((64, 64)).sum(0) // 16)
    if name == "landmarks":
        return Landmarks().draw(face(), (256, 256))
    if name == "depth":
        return Image.linear_gradient("L").convert("RGB")
    return CONDITIONS[name]().compute(photo())


@pytest.mark.parametrize("name", CONDITIONS)
def test_settings_come_back(name):
    condition = CONDITIONS[name]()
    assert condition_of(name, condition.settings()) == condition
    with pytest.raises(UserError, match="no setting of"):
        condition_of(name, {"model": "somewhere"})
    with pytest.raises(UserError, match="is no condition"):
        condition_of(name + "y")


@pytest.mark.parametrize("name", CONDITIONS)
def test_takes_good_maps_and_refuses_blank_ones(name):
    condition = CONDITIONS[name]()
    condition.check(good(name))
    for level in (0, 255):
        with pytest.raises(UserError, match="blank"):
            condition.check(Image.new("RGB", (64, 64), (level,) * 3))


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name != "segmentation"])
def test_refuses_colour_where_grey_is_due(name):
    with pytest.raises(UserError, match="is coloured"):
        CONDITIONS[name]().check(photo())


@pytest.mark.parametrize("name", ["canny", "scribble", "landmarks"])
def test_refuses_black_lines_on_white(name):
    with pytest.raises(UserError, match="Invert"):
        CONDITIONS[name]().check(good(name).point(lambda level: 255 - level))


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("side", [16, 64, 300])
def test_a_resized_map_is_still_a_good_map(name, side):
    condition = CONDITIONS[name]()
    fitted, note = fit(good(name), (side, side), condition)
    condition.check(fitted)
    assert fitted.size == (side, side)
    assert (note is None) == (good(name).size == (side, side))


def test_shrunk_lines_stay_white():
    wide = Image.new("RGB", (512, 512))
    ImageDraw.Draw(wide).line((0, 100, 511, 400), fill=(255, 255, 255))
    fitted, _ = fit(wide, (64, 64), Canny())
    assert np.asarray(fitted).max(0).min() == 255  # every column still has the line


@pytest.mark.parametrize("given", [65, 70, 96, 127, 128, 200, 256])
def test_shrunk_lines_are_neither_lost_nor_thickened(given):
    """Wherever a line lies, it is one pixel wide and no further off than rounding puts it."""
    for place in range(given):
        lines = np.zeros((given, given), np.uint8)
        lines[place] = lines[:, place] = 255
        fitted = np.asarray(fit(Image.fromarray(lines).convert("RGB"), (64, 64), Canny())[0])
        for across in (fitted[..., 0], fitted[..., 0].T):
            on = across.min(1) == 255
            assert on.sum() == 1
            ideal = (place + 0.5) * 64 / given - 0.5
            assert abs(np.flatnonzero(on) - ideal).max() <= 0.5


@pytest.mark.parametrize("given", [66, 70, 83, 102, 128, 200])
def test_slanted_lines_stay_whole(given):
    import cv2

    rng = np.random.default_rng(0)
    for _ in range(30):
        lines = np.zeros((given, given), np.uint8)
        start, end = rng.integers(0, given, (2, 2)).tolist()
        cv2.line(lines, start, end, 255)
        fitted = fit(Image.fromarray(lines).convert("RGB"), (64, 64), Canny())[0]
        assert cv2.connectedComponents(np.asarray(fitted.convert("L")), connectivity=8)[0] == 2


@pytest.mark.parametrize("name", ["canny", "scribble", "landmarks"])
def test_what_is_not_white_on_black_is_refused(name):
    condition, grey = CONDITIONS[name](), photo().convert("L").convert("RGB")
    with pytest.raises(UserError, match="give it as the image whose control image is computed"):
        condition.check(grey)
    with pytest.raises(UserError, match="brightest pixel of this one is 1 of 255"):
        condition.check(good(name).point(lambda level: level // 255))


def test_another_shape_is_letterboxed_and_said():
    tall, note = fit(Image.new("RGB", (50, 100), (255, 255, 255)), (64, 64), Depth())
    white = np.asarray(tall)[..., 0] > 0
    assert white[:, 16:48].all()
    assert white.sum() == 64 * 32
    assert note is not None
    assert "letterboxed" in note


def test_canny_is_opencvs():
    import cv2

    expected = cv2.Canny(np.asarray(photo()), 100, 200)
    assert np.array_equal(np.asarray(Canny().compute(photo()))[..., 0], expected)
    assert Canny(low=10, high=20).measure(photo()).sum() >= Canny().measure(photo()).sum()
    with pytest.raises(UserError, match="low <= high"):
        Canny(low=200, high=100)


def test_no_gradient_is_beyond_the_strongest():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(np.repeat(rng.integers(0, 2, (300, 300, 1), np.uint8) * 255, 3, 2))
    assert Canny(low=1520, high=1520).measure(noise).any()
    assert not Canny(low=1530, high=1530).measure(noise).any()
    with pytest.raises(UserError, match="high <= 1530"):
        Canny(high=1531)


def test_scribbles_are_bolder_than_edges():
    scribble = np.asarray(Scribble().compute(photo(256)))[..., 0] > 0
    edges = Canny().measure(photo(256))
    assert scribble.sum() > 1.5 * edges.sum()
    with pytest.raises(UserError, match="share of the side"):
        Scribble(stroke=3)
    with pytest.raises(UserError, match="share of the side"):
        Landmarks(stroke=3)


def test_an_image_too_busy_for_lines_is_not_to_be_inverted():
    busy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="Take another image") as refused:
        compute(busy, (64, 64), Scribble(stroke=0.1, blur=0.01))
    assert "Invert" not in str(refused.value)


def test_ade20k_is_complete_and_voc_is_pascals():
    assert palette("ade20k").shape == (150, 3)
    names = ade20k_names()
    assert len(set(names)) == 150
    colour = dict(zip(names, map(tuple, palette("ade20k").tolist()), strict=True))
    assert colour["wall"] == (120, 120, 120)
    assert colour["sky"] == (6, 230, 230)
    assert colour["flag"] == (92, 0, 255)
    assert len({c for n, c in colour.items() if n not in ("road", "skyscraper")}) == 148
    # aeroplane, bicycle, bird ... tv monitor of PASCAL VOC
    assert palette("voc")[[1, 2, 3, 20, 255]].tolist() == [
        [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip
    assert len(np.unique(palette("voc"), axis=0)) == 256


@pytest.mark.parametrize("name", PALETTES)
def test_labels_survive_paint_and_read(name):
    segmentation = Segmentation(palette=name)
    labels = np.arange(len(palette(name))).reshape(2, -1)
    read = segmentation.decode(segmentation.paint(labels))
    assert np.array_equal(segmentation.colours[read], segmentation.colours[labels])
    black = Image.new("RGB", (4, 4))
    assert (segmentation.decode(black) == (0 if name == "voc" else UNKNOWN)).all()


def test_a_wrong_palette_is_refused():
    ours = Segmentation(palette="voc", labels=8).paint(np.indices((9, 9)).sum(0) % 8)
    Segmentation(palette="voc").check(ours)
    with pytest.raises(UserError, match="colours that the palette ade20k lacks, such as"):
        Segmentation().check(ours)
    with pytest.raises(UserError, match="palette voc lacks"):
        Segmentation(palette="voc", labels=4).check(ours)
    with pytest.raises(UserError, match="no palette"):
        Segmentation(palette="citys")


@pytest.mark.parametrize("name", ["segmentation", "depth"])
def test_without_a_model_a_ready_map_is_asked_for(name, tmp_path):
    with pytest.raises(UserError, match="Give a ready control image"):
        CONDITIONS[name]().compute(photo())
    with pytest.raises(UserError, match="not at hand"):
        CONDITIONS[name](model=str(tmp_path)).compute(photo())


def test_landmarks_without_their_package():
    try:
        import face_alignment  # noqa: F401
    except ImportError:
        match = r"orthodiff\[landmarks\], or give a ready control image"
        with pytest.raises(UserError, match=match):
            Landmarks().compute(photo())
    else:
        pytest.skip("face_alignment is installed here")


def test_landmarks_must_be_68_points():
    with pytest.raises(UserError, match="68 finite points"):
        Landmarks().draw(np.zeros((5, 2)), (64, 64))


def segformer_config():
    from transformers import SegformerConfig

    torch.manual_seed(0)
    return SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16],
        patch_sizes=[3, 3], strides=[2, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip


def test_segformer_computes_a_map(tmp_path):
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessor

    SegformerForSemanticSegmentation(segformer_config()).save_pretrained(tmp_path)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    segmentation = Segmentation(palette="voc", model=str(tmp_path))
    computed = segmentation.compute(photo())
    assert computed.size == (64, 64)
    assert set(np.unique(segmentation.decode(computed))) <= set(range(5))
    with pytest.raises(UserError, match="knows 5 labels"):
        Segmentation(palette="voc", labels=3, model=str(tmp_path)).compute(photo())


def test_a_depth_model_computes_a_map(tmp_path):
    write_depth_model(tmp_path)
    nearness = Depth(model=str(tmp_path)).measure(photo())
    assert nearness.shape == (64, 64)
    assert nearness.min() == 0
    assert nearness.max() == 1
    away = Depth(metric=True, model=str(tmp_path)).measure(photo())
    assert np.allclose(away, 1 - nearness, atol=1e-5)
    computed = Depth(model=str(tmp_path)).compute(photo())
    assert computed.mode == "RGB"
    faint = computed.point(lambda level: 40 + level * 0.4)
    assert np.allclose(Depth().decode(faint), nearness, atol=0.03)  # 102 levels, rounded twice


def test_a_depth_model_may_lack_what_it_never_uses(tmp_path):
    """The first published DPT have no weights for a layer that is never called."""
    from safetensors.torch import load_file, save_file
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8, backbone_out_indices=[0, 1, 2, 3], fusion_hidden_size=8,
        neck_hidden_sizes=[8, 8, 8, 8], is_hybrid=False,
    )  # fmt: skip
    DPTForDepthEstimation(config).save_pretrained(tmp_path)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    nearness = Depth(model=str(tmp_path)).measure(photo())
    path = tmp_path / "model.safetensors"
    unused = "fusion_stage.layers.0.residual_layer1."
    kept = {name: t for name, t in load_file(path).items() if unused not in name}
    assert len(kept) < len(load_file(path))
    save_file(kept, path, metadata={"format": "pt"})
    open_model.cache_clear()
    assert np.array_equal(Depth(model=str(tmp_path)).measure(photo()), nearness)


def test_a_model_of_another_kind_computes_no_maps(tmp_path):
    """A classifier has no head for control images: transformers would draw one at random."""
    from transformers import SegformerForImageClassification, SegformerImageProcessor

    SegformerForImageClassification(segformer_config()).save_pretrained(tmp_path / "classes")
    SegformerImageProcessor().save_pretrained(tmp_path / "classes")
    write_depth_model(tmp_path / "depth")
    for folder, kind in (("classes", Segmentation), ("classes", Depth), ("depth", Segmentation)):
        with pytest.raises(UserError, match="does not compute"):
            kind(model=str(tmp_path / folder)).compute(photo())


def test_maps_become_numbers_and_overlays():
    edges = Canny().compute(photo())
    assert torch.equal(to_tensor([edges, edges]).unique(), torch.tensor([0.0, 1.0]))
    laid = np.asarray(overlay(photo(), edges, share=1.0))
    on = np.asarray(edges)[..., 0] > 0
    assert (laid[on] == 255).all()
    assert np.array_equal(laid[~on], np.asarray(photo())[~on])


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.linspace(500, 5000, 32 * 32).reshape(32, 32).astype(np.uint16), "levels 2 to 19"),
        (np.linspace(0.5, 8, 32 * 32).reshape(32, 32).astype(np.float32), "levels 0 to 8"),
        (np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16), None),
        (np.linspace(0, 1, 32 * 32).reshape(32, 32).astype(np.float32), None),
    ],
)
def test_depth_in_millimetres_or_metres_is_noted(tmp_path, array, said):
    path = tmp_path / "depth.tiff"
    Image.fromarray(array).save(path)
    _, note = ready(open_control_image(path), (32, 32), CONDITIONS["depth"]())
    assert note is None if said is None else said in note
