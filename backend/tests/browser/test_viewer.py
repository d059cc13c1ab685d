"""The viewer: every kind of GLB that it reads, how it is moved, and what it says of a file that it cannot read."""

import io
import json
import struct

import numpy as np
import pytest
import trimesh
from live_server import fresh_png
from page import coloured, rebuilt, sphere_glb, visit
from PIL import Image
from trimesh.viewer.notebook import scene_to_html


@pytest.fixture
def visitor(chromium, server):
    """A small window: a software renderer draws every pixel of it."""
    with visit(chromium, server.address, viewport={"width": 640, "height": 700}) as page:
        yield page.open()
        page.assert_quiet()


def show(visitor, data, name="ball.glb"):
    visitor.choose((name, data))
    visitor.page.wait_for_selector("#viewer[data-state=ready], #viewer[data-state=error]")
    return visitor["#viewer"].get_attribute("data-state") == "ready"


def frames(visitor) -> int:
    """Drawings so far, once what is under way is on the screen."""
    visitor.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(visitor["#viewer"].get_attribute("data-frames"))


def changed(visitor, action) -> float:
    """The share of the view's pixels that an action changes."""
    before = visitor.pixels()
    action()
    frames(visitor)
    return float((abs(visitor.pixels() - before).max(axis=2) > 12).mean())


def test_mouse_keys_and_buttons_move_and_change_the_view(visitor):
    assert show(visitor, sphere_glb())
    assert coloured(visitor.pixels()) > 0.02
    resting = frames(visitor)
    assert frames(visitor) == resting  # nothing moves, nothing is drawn

    box = visitor["#viewer"].bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse, press = visitor.page.mouse, visitor.page.keyboard.press

    def drag():
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + 90, y + 40, steps=3)
        mouse.up()

    assert changed(visitor, drag) > 0.02
    assert changed(visitor, lambda: mouse.wheel(0, 400)) > 0.02
    assert changed(visitor, lambda: mouse.dblclick(x, y)) > 0.02
    visitor["#viewer"].focus()
    keys = "w g 2 3 4 ArrowLeft ArrowUp Shift+ArrowRight f + - Home"
    for key in keys.split():
        assert changed(visitor, lambda key=key: press(key)) > 0.001, key
    press("r")
    visitor.expect("#tool-rotate").to_have_attribute("aria-pressed", "true")
    turning = frames(visitor)
    assert frames(visitor) > turning
    press("r")
    press("w")
    press("2")
    visitor.expect("#modes [value=flat]").to_be_checked()
    assert changed(visitor, lambda: visitor["#tool-wire"].click()) > 0.01
    visitor.expect("#scale").to_have_text("1 square = 5 mm")


def test_touch_turns_and_pinches(chromium, server):
    with visit(chromium, server.address, has_touch=True, viewport={"width": 390, "height": 800}) as visitor:
        show(visitor.open(), sphere_glb())
        visitor["#viewer"].scroll_into_view_if_needed()
        box = visitor["#viewer"].bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch = visitor.page.context.new_cdp_session(visitor.page)

        def gesture(*steps):
            for kind, *points in (
                ("touchStart", *steps[0]),
                *(("touchMove", *step) for step in steps[1:]),
                ("touchEnd",),
            ):
                places = [{"x": x + dx, "y": y + dy, "id": i} for i, (dx, dy) in enumerate(points)]
                touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

        assert changed(visitor, lambda: gesture([(0, 0)], [(40, 10)], [(80, 20)])) > 0.02
        assert changed(visitor, lambda: gesture([(-20, 0), (20, 0)], [(-50, 0), (50, 0)], [(-90, 0), (90, 0)])) > 0.05


def without_normals(content, binary):
    for primitive in content["meshes"][0]["primitives"]:
        primitive["attributes"].pop("NORMAL", None)
    return content, binary


def moved(content, binary):
    """Two of it, one beside the other, mirrored and turned by a chain of nodes."""
    content["nodes"] = [
        {"children": [1, 2]},
        {"mesh": 0, "translation": [-0.04, 0, 0]},
        {"children": [3], "scale": [-1, 1, 1], "rotation": [0, 0.7071068, 0, 0.7071068]},
        {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0.04, 1]},
    ]
    content["scenes"], content["scene"] = [{"nodes": [0]}], 0
    return content, binary


def interleaved(content, binary):
    """Positions and colours side by side in one view with a stride."""
    attributes = content["meshes"][0]["primitives"][0]["attributes"]
    columns = []
    for name in ("POSITION", "COLOR_0"):
        accessor = content["accessors"][attributes[name]]
        view = content["bufferViews"][accessor["bufferView"]]
        start, size = view.get("byteOffset", 0), view["byteLength"]
        columns.append(np.frombuffer(binary[start : start + size], np.uint8).reshape(accessor["count"], -1))
    rows = np.hstack(columns)
    content["bufferViews"].append(
        {"buffer": 0, "byteOffset": len(binary), "byteLength": rows.size, "byteStride": rows.shape[1]}
    )
    for name, offset in (("POSITION", 0), ("COLOR_0", columns[0].shape[1])):
        accessor = content["accessors"][attributes[name]]
        accessor |= {"bufferView": len(content["bufferViews"]) - 1, "byteOffset": offset}
    attributes.pop("NORMAL", None)
    return content, binary + rows.tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda: sphere_glb(),
        lambda: rebuilt(sphere_glb(), without_normals),
        lambda: rebuilt(sphere_glb(), moved),
        lambda: rebuilt(sphere_glb(), interleaved),
    ],
    ids=["plain", "no normals", "nodes", "interleaved"],
)
def test_every_layout_is_drawn(visitor, make):
    assert show(visitor, make())
    assert coloured(visitor.pixels()) > 0.02


GOOD = sphere_glb(1)
UNREADABLE = {
    "cut short": (GOOD[: len(GOOD) // 2], "cut short"),
    "cut to a few bytes": (GOOD[:7], "cut short"),
    "another format": (b"solid ball\n" * 40, "not a GLB"),
    "version 1": (b"glTF" + struct.pack("<II", 1, 20) + b"\0" * 8, "version 1"),
    "Draco": (rebuilt(GOOD, lambda c, b: ({**c, "extensionsRequired": ["KHR_draco_mesh_compression"]}, b)), "Draco"),
    "no triangles": (rebuilt(GOOD, lambda c, b: ({**c, "meshes": [{"primitives": []}]}, b)), "no triangles"),
    "half its data": (rebuilt(GOOD, lambda c, b: (c, b[: len(b) // 2])), "cut short"),
    "broken text": (GOOD[:24] + b"\xff\xfe" + GOOD[26:], "cannot be read"),
    "parts that are not there": (rebuilt(GOOD, lambda c, b: ({**c, "bufferViews": []}, b)), "damaged"),
}


def test_what_cannot_be_read_is_said_in_words_and_the_next_file_is_shown(visitor):
    for name, (data, words) in UNREADABLE.items():
        assert not show(visitor, data, f"{name}.glb"), name
        visitor.expect("#view-message").to_contain_text(words)
        assert show(visitor, GOOD)
        visitor.expect("#view-message").to_be_hidden()


def test_a_result_cut_short_on_its_way_leaves_a_message_and_the_downloads(visitor):
    visitor.page.route("**/model_*.glb", lambda route: route.fulfill(body=GOOD[: len(GOOD) // 3]))
    visitor["#quality"].fill("1")
    visitor.choose(("cup.png", fresh_png()))
    visitor.wait_until_sent()
    visitor["#make"].click()
    visitor.expect("#view-message").to_contain_text("cut short")
    _, data = visitor.download()
    assert trimesh.load(io.BytesIO(data), file_type="stl").is_watertight


def test_a_lost_context_is_said_and_comes_back(visitor):
    assert show(visitor, sphere_glb())
    lose = """() => {
        const gl = document.querySelector("#viewer").getContext("webgl2");
        globalThis.lost = gl.getExtension("WEBGL_lose_context");
        lost.loseContext();
    }"""
    visitor.page.evaluate(lose)
    visitor.expect("#view-message").to_contain_text("comes back by itself")
    visitor.page.evaluate("lost.restoreContext()")
    visitor.page.wait_for_selector("#viewer[data-state=ready]")
    frames(visitor)
    assert coloured(visitor.pixels()) > 0.02


NO_WEBGL2 = """
HTMLCanvasElement.prototype.getContext = new Proxy(HTMLCanvasElement.prototype.getContext, {
    apply: (get, canvas, wanted) => (wanted[0] === "webgl2" ? null : get.apply(canvas, wanted)),
});"""


def test_without_webgl2_everything_else_works(chromium, server):
    with visit(chromium, server.address) as visitor:
        visitor.page.add_init_script(NO_WEBGL2)
        visitor.open()
        visitor.expect("#view-message").to_contain_text("no WebGL2")
        visitor["#quality"].fill("1")
        visitor.choose(("cup.png", fresh_png()))
        visitor.wait_until_sent()
        visitor["#make"].click()
        _, data = visitor.download()
        assert trimesh.load(io.BytesIO(data), file_type="stl").is_watertight
        visitor.assert_quiet()


@pytest.mark.slow
def test_three_hundred_thousand_triangles_are_drawn_and_turned(visitor):
    assert show(visitor, sphere_glb(7))
    assert visitor["#viewer"].get_attribute("data-triangles") == str(20 * 4**7)
    assert coloured(visitor.pixels()) > 0.02
    visitor["#viewer"].focus()
    assert changed(visitor, lambda: visitor.page.keyboard.press("w")) > 0.01
    assert changed(visitor, lambda: visitor.page.keyboard.press("ArrowUp")) > 0.005


def test_the_same_glb_draws_in_the_viewer_that_trimesh_brings(visitor, server, chromium):
    status = server.make(fresh_png(), quality=2, format="glb")
    glb = server.download(status)
    assert show(visitor, glb)
    assert coloured(visitor.pixels()) > 0.02
    page = chromium.new_page(viewport={"width": 400, "height": 300})
    page.set_content(scene_to_html(trimesh.load_scene(io.BytesIO(glb), file_type="glb")))
    for _ in range(60):
        page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
        drawn = coloured(np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), int))
        if drawn > 0.02:
            break
    page.close()
    assert drawn > 0.02
    assert json.loads(glb[20 : 20 + int.from_bytes(glb[12:16], "little")])["asset"]["version"] == "2.0"
