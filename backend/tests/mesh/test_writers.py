from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapes
from PIL import Image

from mesh.finish import finish
from mesh.formats import FORMATS, Dimensions
from mesh.report import inspect, measure
from mesh.writers import decimals, export, welded

HERE = Path(__file__).parent
DIRECTORIES = [str(folder) for folder in (HERE, HERE.parent, HERE.parents[1])]
Z_UP = [name for name in FORMATS if name != "glb"]
CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
MATERIAL = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"


def finished(mesh, **options):
    return finish(mesh, **{"dimensions": Dimensions(), "fit": "contain", "target_faces": None, **options})


@pytest.fixture(scope="module")
def models():
    return {
        "bare": finished(shapes.torus()),
        "coloured": finished(shapes.painted(shapes.sphere())),
        "textured": finished(shapes.two_sheets()),
        "light": finished(shapes.two_sheets(), target_faces=500),
        "small": finished(shapes.sphere(2), dimensions=Dimensions(height=0.7)),
        "large": finished(shapes.two_sheets(), dimensions=Dimensions(width=3456.7)),
        "open": finished(shapes.mesh([[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])),
    }


MODELS = ("bare", "coloured", "textured", "light", "small", "large", "open")


def read(data, name, *, process=False):
    """By trimesh, in millimetres with +Z up and the front towards −Y."""
    import trimesh

    loaded = trimesh.load_scene(io.BytesIO(data), file_type=name, process=process).to_mesh()
    if name == "glb":
        loaded.apply_scale(1000)
        loaded.vertices = loaded.vertices[:, [0, 2, 1]] * (1, -1, 1)
    return loaded


class Glb:
    """The file taken apart by the letter of the specification."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = np.frombuffer(data, "<u4", 3)
        assert (magic, version, length) == (0x46546C67, 2, len(data))
        size, kind = np.frombuffer(data, "<u4", 2, 12)
        assert (kind, size % 4) == (0x4E4F534A, 0)
        self.json = json.loads(data[20 : 20 + size])
        binary_size, kind = np.frombuffer(data, "<u4", 2, 20 + size)
        assert (kind, binary_size % 4) == (0x004E4942, 0)
        self.binary = data[28 + size :]
        assert len(self.binary) == binary_size == self.json["buffers"][0]["byteLength"]
        (mesh,) = self.json["meshes"]
        (self.primitive,) = mesh["primitives"]

    def view(self, number: int) -> bytes:
        view = self.json["bufferViews"][number]
        assert view["buffer"] == 0
        return self.binary[view["byteOffset"] :][: view["byteLength"]]

    def array(self, number: int) -> np.ndarray:
        accessor = self.json["accessors"][number]
        kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        return np.frombuffer(self.view(accessor["bufferView"]), kind).reshape(accessor["count"], width)

    def attribute(self, name: str) -> np.ndarray:
        return self.array(self.primitive["attributes"][name])


class TestEveryFormat:
    def test_the_table_is_the_contract(self):
        assert {name: entry.mime for name, entry in FORMATS.items()} == {
            "glb": "model/gltf-binary",
            "stl": "model/stl",
            "obj": "model/obj",
            "ply": "model/ply",
            "3mf": "model/3mf",
        }

    def test_an_unknown_format_is_an_error(self, models):
        with pytest.raises(KeyError):
            export(models["bare"], "fbx")

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("name", FORMATS)
    def test_what_is_measured_is_what_is_delivered(self, models, model, name):
        assert inspect(export(models[model], name), name) == measure(models[model])

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("name", FORMATS)
    def test_trimesh_sees_the_same_solid(self, models, model, name):
        report, loaded = measure(models[model]), read(export(models[model], name), name)
        width, height, depth = report.extents_mm
        loaded.merge_vertices(merge_tex=True, merge_norm=True, digits_vertex=5)
        assert loaded.extents == pytest.approx((width, depth, height), rel=1e-3)
        assert len(loaded.faces) == report.faces
        assert loaded.is_watertight == report.watertight
        assert loaded.euler_number == shapes.as_trimesh(models[model]).euler_number
        if report.watertight:
            assert loaded.is_winding_consistent
            assert loaded.volume == pytest.approx(report.volume_mm3, rel=1e-3)

    @pytest.mark.parametrize("name", FORMATS)
    def test_up_front_and_right(self, name):
        """The signpost's spike, nose and arm, in millimetres: it is 9 wide, 9 high and 7 deep, so 9 are 100 mm."""
        data = export(finished(shapes.signpost()), name)
        vertices = np.unique(read(data, name).vertices.round(3), axis=0)
        tip, nose, arm = (
            vertices[(sign * vertices[:, axis]).argsort()[-4:]] for axis, sign in ((2, 1), (1, -1), (0, 1))
        )
        assert np.ptp(tip, axis=0) == pytest.approx((100 / 9, 100 / 9, 0), abs=1e-2), "the spike points up"
        assert np.ptp(nose, axis=0) == pytest.approx((100 / 9, 0, 50 / 9), abs=1e-2), "the nose points to the front"
        assert np.ptp(arm, axis=0) == pytest.approx((0, 100 / 9, 50 / 9), abs=1e-2), "the arm points to the right"
        assert inspect(data, name).extents_mm == pytest.approx((100, 100, 700 / 9), abs=1e-2)

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("name", Z_UP)
    def test_it_stands_in_the_middle_of_the_plate(self, models, model, name):
        low, high = read(export(models[model], name), name).bounds
        assert low[2] == 0
        assert (low + high)[:2] == pytest.approx((0, 0), abs=2e-5 * max(high - low))

    @pytest.mark.parametrize("name", ["obj", "ply"])
    def test_vertices_keep_their_colours(self, models, name):
        loaded = read(export(models["coloured"], name), name)
        clear = np.abs(loaded.vertices[:, 0]) > 5
        expected = np.where(loaded.vertices[:, :1] > 0, (200, 30, 10), (10, 30, 200))
        assert clear.sum() > 100
        assert np.abs(loaded.visual.vertex_colors[clear, :3].astype(int) - expected[clear]).max() <= 1

    @pytest.mark.parametrize("name", ["obj", "ply"])
    def test_a_texture_becomes_vertex_colours(self, models, name):
        """Red grows with x, green with height; half the blue is the back."""
        loaded = read(export(models["textured"], name), name)
        x, y, z = (loaded.vertices / np.ptp(loaded.vertices[:, 0]) * np.ptp(shapes.two_sheets().vertices[:, 0])).T
        z -= np.ptp(z) / 2
        red, green, blue = loaded.visual.vertex_colors[:, :3].T.astype(float)
        inner = np.hypot(x, z) < 0.4
        assert red[inner] == pytest.approx((x[inner] + 1) * 127.5, abs=2)
        assert green[inner] == pytest.approx((z[inner] + 1) * 127.5, abs=2)
        assert np.array_equal(blue[inner] > 127, y[inner] > 0)

    def test_another_process_writes_the_same_bytes(self, models):
        """Later, with other hash seeds, and so that no date, random name or order of a set can hide."""
        program = (
            "import hashlib, shapes, test_writers as t\n"
            "for mesh in (shapes.two_sheets(), shapes.painted(shapes.sphere())):\n"
            "    for target in (None, 500):\n"
            "        for name in t.FORMATS:\n"
            "            print(hashlib.sha256(t.export(t.finished(mesh, target_faces=target), name)).hexdigest())\n"
        )
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(DIRECTORIES),
            "PYTHONHASHSEED": "7",
            "TZ": "Asia/Tokyo",
        }
        other = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        own = [
            hashlib.sha256(export(finished(mesh, target_faces=target), name)).hexdigest()
            for mesh in (shapes.two_sheets(), shapes.painted(shapes.sphere()))
            for target in (None, 500)
            for name in FORMATS
        ]
        assert other.stdout.split() == own


class TestGlb:
    @pytest.mark.parametrize("model", MODELS)
    def test_structure(self, models, model):
        mesh = models[model]
        glb = Glb(export(mesh, "glb"))
        content = glb.json
        assert content["asset"]["version"] == "2.0"
        assert content["scenes"][content["scene"]]["nodes"] == [0]
        assert "matrix" not in content["nodes"][0]
        assert "scale" not in content["nodes"][0]
        ends = 0
        for view in content["bufferViews"]:
            assert view["byteOffset"] % 4 == 0
            assert view["byteOffset"] >= ends
            ends = view["byteOffset"] + view["byteLength"]
        assert ends <= len(glb.binary)
        counts = {content["accessors"][number]["count"] for number in glb.primitive["attributes"].values()}
        assert counts == {len(mesh.vertices)}
        indices = glb.array(glb.primitive["indices"])
        assert np.array_equal(indices.reshape(-1, 3), mesh.faces)
        for name, number in glb.primitive["attributes"].items():
            accessor = content["accessors"][number]
            assert content["bufferViews"][accessor["bufferView"]]["target"] == 34962, name
        assert content["bufferViews"][content["accessors"][glb.primitive["indices"]]["bufferView"]]["target"] == 34963

    def test_metres_y_up_with_exact_bounds(self, models):
        mesh = models["large"]
        glb = Glb(export(mesh, "glb"))
        position = glb.attribute("POSITION")
        accessor = glb.json["accessors"][glb.primitive["attributes"]["POSITION"]]
        assert position == pytest.approx(mesh.vertices / 1000, rel=1e-6)
        assert accessor["min"] == position.min(axis=0).tolist()
        assert accessor["max"] == position.max(axis=0).tolist()

    @pytest.mark.parametrize("model", MODELS)
    def test_normals_are_unit_and_outward_and_shared_across_seams(self, models, model):
        mesh = models[model]
        normal = Glb(export(mesh, "glb")).attribute("NORMAL").astype(float)
        assert np.linalg.norm(normal, axis=1) == pytest.approx(np.ones(len(normal)), abs=1e-5)
        corners = mesh.vertices[mesh.faces].astype(float)
        face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert np.mean(np.einsum("fj,fj->f", normal[mesh.faces].sum(axis=1), face) > 0) > 0.99
        order = np.lexsort(mesh.vertices.T)
        same = (np.diff(mesh.vertices[order], axis=0) == 0).all(axis=1)
        assert np.array_equal(normal[order][1:][same], normal[order][:-1][same])

    def test_a_matt_one_sided_material(self, models):
        (material,) = Glb(export(models["coloured"], "glb")).json["materials"]
        assert material["doubleSided"] is False
        assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
        assert 0.5 <= material["pbrMetallicRoughness"]["roughnessFactor"] <= 1
        assert material["pbrMetallicRoughness"].get("baseColorFactor", [1, 1, 1, 1]) == [1, 1, 1, 1]

    def test_colours_are_linear_light(self):
        """Reference values of IEC 61966-2-1, on both sides of its linear foot."""
        ball = finished(shapes.sphere(1))
        grey = np.resize(np.array([0, 10, 11, 128, 188, 255], np.uint8), len(ball.vertices))
        glb = Glb(export(replace(ball, colours=np.repeat(grey[:, None], 3, axis=1)), "glb"))
        linear = dict(zip(grey.tolist(), glb.attribute("COLOR_0").tolist(), strict=True))
        expected = {0: 0, 10: 0.003035, 11: 0.003347, 128: 0.215861, 188: 0.502886, 255: 1}
        for value, light in expected.items():
            assert linear[value] == pytest.approx([light] * 3, abs=1e-6)

    def test_the_texture_lies_where_it_should(self, models):
        """Read by the specification: v runs down, red grows with x, green with y, blue is the back."""
        mesh = models["textured"]
        glb = Glb(export(mesh, "glb"))
        image = glb.json["images"][glb.json["textures"][0]["source"]]
        picture = np.asarray(Image.open(io.BytesIO(glb.view(image["bufferView"]))).convert("RGB")).astype(int)
        height, width = picture.shape[:2]
        u, v = glb.attribute("TEXCOORD_0").T
        column, row = np.minimum(u * width, width - 1).astype(int), np.minimum(v * height, height - 1).astype(int)
        red, green, blue = picture[row, column].T
        x, y, z = glb.attribute("POSITION").T
        scale = np.ptp(shapes.two_sheets().vertices[:, 0]) / np.ptp(x)
        x, y = x * scale, (y - np.ptp(y) / 2) * scale
        inner = np.hypot(x, y) < 0.4
        assert red[inner] == pytest.approx((x[inner] + 1) * 127.5, abs=4)
        assert green[inner] == pytest.approx((y[inner] + 1) * 127.5, abs=4)
        assert np.array_equal(blue[inner] > 127, z[inner] < 0)

    @pytest.mark.parametrize(("side", "mime"), [(16, "image/png"), (512, "image/jpeg")])
    def test_a_small_texture_is_exact_and_a_large_one_is_compressed(self, models, side, mime):
        picture = (
            np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8).repeat(side // 4, 0).repeat(side // 4, 1)
        )
        glb = Glb(export(replace(models["textured"], texture=picture), "glb"))
        (image,) = glb.json["images"]
        back = np.asarray(Image.open(io.BytesIO(glb.view(image["bufferView"]))).convert("RGB")).astype(int)
        assert image["mimeType"] == mime
        assert np.abs(back - picture).mean() <= (0 if mime == "image/png" else 2)

    @pytest.mark.parametrize(("count", "kind"), [(0xFFFF, 5123), (0x10000, 5125)])
    def test_indices_are_as_wide_as_they_need_to_be(self, count, kind):
        """65535 marks a restart in 16 bits, so that is the greatest number of vertices."""
        turn = np.linspace(0, 2 * np.pi, count - 1, endpoint=False)
        fan = np.vstack([[0, 0, 0], np.column_stack([np.cos(turn), np.sin(turn), 0 * turn])])
        rim = np.arange(1, count)
        mesh = shapes.mesh(fan, np.stack([np.zeros_like(rim), rim, np.roll(rim, -1)], axis=1))
        glb = Glb(export(mesh, "glb"))
        assert glb.json["accessors"][glb.primitive["indices"]]["componentType"] == kind
        assert glb.array(glb.primitive["indices"]).max() == count - 1


class TestStl:
    def test_size_and_normals(self, models):
        data = export(models["bare"], "stl")
        count = int.from_bytes(data[80:84], "little")
        assert len(data) == 84 + 50 * count
        assert not data.startswith(b"solid"), "which would make readers take it for text"
        record = np.dtype([("normal", "<f4", 3), ("corner", "<f4", (3, 3)), ("attribute", "<u2")])
        triangles = np.frombuffer(data, record, offset=84)
        corner = triangles["corner"].astype(float)
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        assert triangles["normal"] == pytest.approx(normal, abs=1e-4)
        assert not triangles["attribute"].any()


class TestObj:
    @pytest.mark.parametrize("model", ["bare", "coloured"])
    def test_one_plain_file(self, models, model):
        lines = export(models[model], "obj").decode("ascii").splitlines()
        number = r" -?\d+\.\d+"
        vertex = re.compile("v" + number * (3 if model == "bare" else 6))
        kinds = {line.split(" ", 1)[0] for line in lines}
        assert kinds == {"#", "v", "f"}, "nothing that refers to another file"
        assert all(vertex.fullmatch(line) for line in lines if line.startswith("v"))
        corners = np.array([line.split()[1:] for line in lines if line.startswith("f")], int)
        assert corners.min() == 1
        assert corners.max() == measure(models[model]).vertices

    @pytest.mark.parametrize("model", MODELS)
    def test_each_line_by_itself(self, models, model):
        mesh, places = welded(models[model]), decimals(models[model])
        colours = mesh.colours if mesh.colours is not None else np.zeros((len(mesh.vertices), 0))
        lines = ["# millimetres, +Z up"]
        for (x, y, z), shades in zip(mesh.vertices.astype(float), colours / 255, strict=True):
            turned = " ".join(f"{value + 0.0:.{places}f}" for value in (x, -z, y))
            lines.append(" ".join(["v", turned, *(f"{shade:.4f}" for shade in shades)]))
        lines += ["f {} {} {}".format(*face) for face in mesh.faces + 1]
        assert export(models[model], "obj").decode().splitlines() == lines


class Test3mf:
    def opened(self, data):
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            assert package.testzip() is None
            return {name: package.read(name) for name in package.namelist()}

    def test_the_package_leads_to_the_model(self, models):
        parts = self.opened(export(models["bare"], "3mf"))
        (relation,) = ET.fromstring(parts["_rels/.rels"])
        assert relation.get("Type") == "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
        target = relation.get("Target").lstrip("/")
        assert target in parts
        types = {each.get("Extension"): each.get("ContentType") for each in ET.fromstring(parts["[Content_Types].xml"])}
        assert types["model"] == "application/vnd.ms-package.3dmanufacturing-3dmodel+xml"
        assert types["rels"] == "application/vnd.openxmlformats-package.relationships+xml"

    def test_millimetres_and_one_object_to_build(self, models):
        model = ET.fromstring(self.opened(export(models["bare"], "3mf"))["3D/3dmodel.model"])
        assert model.tag == CORE + "model"
        assert model.get("unit") == "millimeter"
        (built,) = model.findall(f"{CORE}build/{CORE}item")
        (solid,) = model.findall(f"{CORE}resources/{CORE}object")
        assert built.get("objectid") == solid.get("id")
        assert len(solid.findall(f".//{CORE}triangle")) == measure(models["bare"]).faces
        assert model.find(f".//{MATERIAL}colorgroup") is None

    def test_every_corner_has_its_colour(self, models):
        model = ET.fromstring(self.opened(export(models["coloured"], "3mf"))["3D/3dmodel.model"])
        (group,) = model.iter(MATERIAL + "colorgroup")
        palette = [color.get("color") for color in group]
        assert set(palette) == {"#C81E0A", "#0A1EC8"}
        (solid,) = model.iter(CORE + "object")
        assert (solid.get("pid"), solid.get("pindex")) == (group.get("id"), "0")
        right = [float(vertex.get("x")) for vertex in model.iter(CORE + "vertex")]
        seen = 0
        for triangle in model.iter(CORE + "triangle"):
            assert triangle.get("pid") == group.get("id")
            for n in "123":
                x = right[int(triangle.get("v" + n))]
                if abs(x) > 5:
                    seen += 1
                    assert palette[int(triangle.get("p" + n))] == ("#C81E0A" if x > 0 else "#0A1EC8")
        assert seen > 1000

    def test_many_colours_each_once_and_in_order(self, models):
        mesh = welded(models["textured"])
        model = ET.fromstring(self.opened(export(models["textured"], "3mf"))["3D/3dmodel.model"])
        palette = [color.get("color") for color in model.iter(MATERIAL + "color")]
        assert palette == sorted({"#{:02X}{:02X}{:02X}".format(*colour) for colour in mesh.colours})
        assert len(palette) > 100
        corners, shades = (
            [[int(triangle.get(kind + n)) for n in "123"] for triangle in model.iter(CORE + "triangle")]
            for kind in "vp"
        )
        assert np.array_equal(corners, mesh.faces)
        colours = [[int(palette[shade][at : at + 2], 16) for at in (1, 3, 5)] for shade in np.ravel(shades)]
        assert np.array_equal(colours, mesh.colours[mesh.faces.ravel()])


class TestReport:
    def test_a_box_by_hand(self):
        report = measure(finished(shapes.box((0, 0, 0), (2, 4, 1))))
        assert report.as_dict() == {
            "vertices": 8,
            "faces": 12,
            "watertight": True,
            "volume_mm3": 125000.0,
            "extents_mm": [50.0, 100.0, 25.0],
        }
        assert json.loads(json.dumps(report.as_dict())) == report.as_dict()

    def test_vertices_that_a_seam_split_count_once(self):
        split = finished(shapes.two_sheets())
        assert measure(split).vertices < len(split.vertices)
        assert measure(split).watertight
