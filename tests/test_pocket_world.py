"""The rendered world: geometry, looks, truth and streams, on a ball that no renderer is needed for.

What needs the 3D models or Mitsuba is skipped where they are not installed.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orthodiff.errors import UserError
from pocket.painted.grounds import GROUNDS
from pocket.world.labels import LABELS, WORDS
from pocket.world.models.catalogue import (
    class_keys,
    everyone,
    indexed,
    individuals,
    is_installed,
    write_index,
)
from pocket.world.models.credits import credits
from pocket.world.models.wavefront import read_obj
from pocket.world.places.contexts import CONTEXTS
from pocket.world.rendering.camera import SIDE, Camera, camera_of, random_view
from pocket.world.rendering.shadow import ground_shadow
from pocket.world.rendering.views import VIEWS, ViewStore, address, views_of
from pocket.world.scenes.captions import random_caption, side
from pocket.world.scenes.materials import (
    COLOURS,
    FINISHES,
    Appearance,
    Surface,
    finished,
    random_appearance,
    recolour,
)
from pocket.world.scenes.scene import Pose, Scene, compose
from pocket.world.scenes.truth import depth_map, edge_map, normal_map
from pocket.world.words import PRETRAINED
from pocket.world.world import World
from tests.ball import BALL, RADIUS, VIEW, ball_points, ball_record, ball_world

needs_models = pytest.mark.skipif(not is_installed(), reason="sweethome3d-furniture is missing")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return ball_world(tmp_path_factory.mktemp("views"))


def scene_of(context: str, appearance: Appearance | None = None, *, flip: bool = False) -> Scene:
    pose = Pose(0.5, 0.55, 0.6, flip)
    rng = np.random.default_rng(0)
    return compose(ball_record(VIEW), BALL, VIEW, appearance or Appearance(), context, pose, rng)


def test_rays_go_through_the_pixels_that_points_fall_on():
    points, _ = ball_points()
    camera = Camera.of_row(camera_of(VIEW, points, 2 * RADIUS).as_row())
    ray = camera.rays()[40, 70]
    assert camera.project((camera.eye + 3.3 * ray)[None])[0] == pytest.approx(
        (70.5, 40.5), abs=1e-3
    )
    assert camera.axes @ camera.axes.T == pytest.approx(np.eye(3), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_an_individual_fills_its_view(seed: int):
    points, _ = ball_points()
    pixels = camera_of(random_view(np.random.default_rng(seed)), points, 2 * RADIUS).project(points)
    low, high = pixels.min(0), pixels.max(0)
    assert (high - low).max() == pytest.approx(0.94 * SIDE, abs=0.5)
    assert (low > 0).all()
    assert (high < SIDE).all()


def test_a_shadow_lies_away_from_the_sun_and_touches_the_foot():
    points, faces = ball_points()
    view = replace(VIEW, sun_azimuth=-90.0, elevation=30.0)  # the sun is on the left
    camera = camera_of(view, points, 2 * RADIUS)
    shadow = ground_shadow(points, faces, camera)
    foot = (camera.project(np.zeros((1, 3)))[0] - SIDE / 2) / 2 + SIDE / 2
    columns = np.flatnonzero(shadow.max(0) > 0.4)
    assert columns.mean() > foot[0] + 4
    assert shadow[int(foot[1]), int(foot[0])] > 0.4


def test_obj_files_are_read_with_corners_materials_and_fans(tmp_path: Path):
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 0 0\nd 0.5\nnewmtl wood\nmap_Kd wood.png\n")
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "usemtl red\nf 1 2 3 4\nusemtl wood\nf -4/1 -3/2 -2/3\n"
    )
    (red, wood), materials = read_obj(tmp_path / "a.obj")
    assert len(red.faces) == 2
    assert len(red.vertices) == 4
    assert red.normals == pytest.approx(np.array([[0, 0, 1]] * 4))
    assert red.uv is None
    assert wood.uv is not None
    assert materials["red"].diffuse == (1, 0, 0)
    assert materials["wood"].texture == tmp_path / "wood.png"


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_scene_shows_the_individual_and_its_truth_agrees(context: str):
    scene = scene_of(context)
    inside = scene.mask > 127
    assert 0.1 < inside.mean() < 0.4
    assert (scene.labels[inside] == LABELS.index("ball")).all()
    assert not (scene.labels[~inside] == LABELS.index("ball")).any()
    assert LABELS[scene.labels[-1, 2]] in (CONTEXTS[context].below, "rug", "road")
    assert np.linalg.norm(scene.normal[inside], axis=-1) == pytest.approx(1, abs=0.02)
    red, green, _ = scene.image[inside].astype(float).mean(0)
    assert red > green  # the ball is red, also at night


def test_the_ground_goes_away_from_the_camera():
    distance = scene_of("on the beach").distance
    assert (np.diff(distance[:, 1]) <= 1e-5).all()
    assert distance[-1, 1] < 4.5 < distance[0, 1]


def test_contexts_are_those_of_the_painted_world():
    assert list(CONTEXTS) == list(GROUNDS)
    images = [scene_of(context).image.astype(int) for context in CONTEXTS]
    for k, image in enumerate(images):
        assert all(np.abs(image - other).mean() > 3 for other in images[:k])


def test_flipping_mirrors_all_of_a_scene():
    plain, flipped = scene_of("at night"), scene_of("at night", flip=True)
    assert (plain.image[:, ::-1] == flipped.image).all()
    assert (plain.labels[:, ::-1] == flipped.labels).all()
    assert plain.normal[:, ::-1, 0] == pytest.approx(-flipped.normal[..., 0])


def test_maps_show_the_ball():
    scene = scene_of("on a checkered floor")
    inside, middle = scene.mask > 127, (70, 64)
    depth, normals, edges = depth_map(scene), normal_map(scene), edge_map(scene)
    assert depth[middle] > depth[inside].mean()  # a ball's middle is nearest
    assert normals[middle][2] > 240
    rim = inside & ~np.roll(inside, 1, axis=1)
    assert edges[rim].mean() > 200
    assert edges[middle] == 0


def surface() -> Surface:
    record = ball_record(VIEW)
    camera = Camera.of_row(record["camera"])
    position = camera.eye + camera.rays() * record["distance"].astype(float)[..., None]
    return Surface(record["albedo"] / np.float32(255), position, record["normal"] / 127.0)


@pytest.mark.parametrize("word", COLOURS)
def test_recolouring_is_seen(word: str):
    red, green, blue = recolour(np.full((1, 1, 3), 0.5, np.float32), word)[0, 0]
    expected = {
        "red": red > max(green, blue), "green": green > max(red, blue),
        "blue": blue > max(red, green), "white": min(red, green, blue) > 0.7,
        "black": max(red, green, blue) < 0.25, "yellow": min(red, green) > blue,
        "orange": red > green > blue, "turquoise": min(green, blue) > red,
        "purple": blue > green and red > green, "pink": red > blue > green,
    }  # fmt: skip
    assert expected[word]


@pytest.mark.parametrize("finish", FINISHES)
def test_finishes_change_the_surface_and_stay_colours(finish: str):
    plain = surface()
    colours = finished(plain, Appearance(finish=finish))
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert np.abs(colours - plain.albedo).mean() > 0.05
    assert (finished(plain, Appearance()) == plain.albedo).all()


def test_captions_name_the_class_and_mostly_the_place():
    rng = np.random.default_rng(0)
    texts = [
        random_caption("chair", random_appearance(rng), VIEW, "at night", rng) for _ in range(200)
    ]
    assert all("chair" in text for text in texts)
    assert 0.8 < np.mean(["at night" in text for text in texts]) < 1
    assert side(VIEW) == "from the front"
    assert side(replace(VIEW, azimuth=-170.0)) == "from behind"
    assert side(replace(VIEW, elevation=30.0)) == "from above"


def test_a_stream_is_the_same_every_time(world: World):
    again = World(world.store, world.individuals, world.sets)
    for index in (0, 7):
        (first, caption), (second, other) = world.scene(3, index), again.scene(3, index)
        assert (first.image == second.image).all()
        assert caption == other
    assert (world.scene(3, 0)[0].image != world.scene(4, 0)[0].image).any()


def test_a_world_asks_for_views_that_are_missing(world: World):
    with pytest.raises(UserError, match="1 sets of views are missing"):
        World(world.store, world.individuals, (0, 5))


def test_an_address_says_what_views_depend_on():
    assert address(BALL, 0) == address(BALL, 0)
    others = address(BALL, 1), address(replace(BALL, files="1"), 0)
    assert len({address(BALL, 0), *others}) == 3
    assert len(views_of(BALL, 0)) == VIEWS


def test_words_are_labels():
    assert set(PRETRAINED) <= set(WORDS) <= set(LABELS)
    assert len(LABELS) == len(set(LABELS)) < 256
    assert len(PRETRAINED) >= 60


@needs_models
def test_the_world_has_classes_and_individuals_enough():
    everyone = individuals()
    assert len(class_keys()) >= 100
    assert len(everyone) == len({one.key for one in everyone}) >= 350
    held = [one for one in everyone if one.held_out]
    seen = {one.word for one in everyone if not one.held_out}
    assert 40 < len(held) < 120
    assert {one.word for one in held} <= seen
    free = individuals(free_only=True)
    assert len(free) >= 80
    assert {one.licence for one in free} == {"CC0-1.0"}


def test_views_are_enough_without_the_models(tmp_path: Path):
    assert indexed(tmp_path) == ()
    write_index(tmp_path, (BALL,))
    assert indexed(tmp_path) == (BALL,)
    assert everyone(tmp_path, tmp_path / "nothing") == (BALL,)


@needs_models
def test_credits_name_every_creator():
    text = Path("pocket/world/models/CREDITS.md").read_text("utf-8")
    assert text == credits(individuals())
    assert all(f"- {one.creator}: " in text for one in individuals())


@needs_models
def test_a_model_is_rendered_as_its_camera_says(tmp_path: Path):
    pytest.importorskip("mitsuba")
    one = next(one for one in individuals() if one.key == "Blend Swap CC-0#plasticChair")
    store = ViewStore(tmp_path)
    store.render(one, 0)
    records = store.open(one, 0)
    assert records.shape == (VIEWS,)
    for record in records:
        solid = record["alpha"] > 250
        assert 0.1 < solid.mean() < 0.8
        assert record["sky"][solid].mean() > 100
        assert record["sun"][solid].max() > 100
        camera = Camera.of_row(record["camera"])
        far = np.linalg.norm(camera.eye - (0, 0.6, 0))
        assert record["distance"][solid].mean() == pytest.approx(far, abs=0.6)
        rows = np.flatnonzero(solid.any(1))
        assert rows[-1] - rows[0] == pytest.approx(0.94 * SIDE, abs=4)
