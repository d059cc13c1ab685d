"""A finished mesh as the bytes of a file.

The mesh comes in millimetres, +Y up, front +Z. GLB keeps the axes and turns to metres; all others keep the millimetres
and turn to what printers and CAD expect, +Z up and front towards −Y. The same mesh gives the same bytes, always. The
writers are our own because they are short, wait for no import and leave out all that changes from run to run; `report`
reads with trimesh, so that what is written is judged by someone else.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mesh import topology
from mesh.mesh import Mesh

_LOSSLESS_PIXELS = 256 * 256
"""A texture up to this size is a PNG: exact, and small anyway. A larger one is a JPEG: far smaller and quicker."""


def export(mesh_mm: Mesh, format: str) -> bytes:
    """The file. KeyError for a format that is not in `FORMATS`."""
    return WRITERS[format](mesh_mm)


def decimals(mesh: Mesh) -> int:
    """As many as tell apart what `finish` tells apart, and one more."""
    return int(max(0, 6 - np.floor(np.log10(max(topology.longest(mesh.vertices), 1e-6)))))


def welded(mesh: Mesh) -> Mesh:
    """The mesh with one vertex to a place and one colour to a vertex, for formats that know no texture coordinates."""
    first, place = topology.places(mesh.vertices)
    colours = _vertex_colours(mesh)
    return Mesh(mesh.vertices[first], place.take(mesh.faces), None if colours is None else colours[first])


def _vertex_colours(mesh: Mesh) -> NDArray[np.uint8] | None:
    """(V,3) sRGB: the mesh's own, or its texture's between the four texels around each vertex."""
    if mesh.uv is None or mesh.texture is None:
        return mesh.colours
    height, width = mesh.texture.shape[:2]
    spot = np.clip(mesh.uv * (1, -1) + (0, 1), 0, 1) * (width, height) - 0.5
    corner = np.floor(spot).astype(np.int64)
    colours, texels = np.zeros((len(mesh.uv), 3)), mesh.texture.reshape(-1, 3)
    for shift in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = (corner + shift).T
        weight = (1 - np.abs(spot[:, 0] - x)) * (1 - np.abs(spot[:, 1] - y))
        number = np.clip(y, 0, height - 1) * width + np.clip(x, 0, width - 1)
        colours += weight[:, None] * texels.take(number, axis=0)
    return np.rint(colours).astype(np.uint8)


def _z_up(vertices: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1) + np.float32(0)  # + 0: no minus zero


# --- STL: https://en.wikipedia.org/wiki/STL_(file_format), binary ---------------------------------------------------


def _stl(mesh: Mesh) -> bytes:
    vertices = _z_up(mesh.vertices)
    normals = topology.cross(vertices, mesh.faces)
    normals /= np.maximum(topology.lengths(normals)[:, None], np.finfo(float).tiny)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    triangles = np.zeros(len(mesh.faces), record)
    triangles["normal"] = normals
    triangles["corners"] = vertices.take(mesh.faces, axis=0)
    return b"".join([b"binary STL, millimetres, +Z up".ljust(80), len(triangles).to_bytes(4, "little"), triangles.data])


# --- PLY: binary, with colours -------------------------------------------------------------------------------------


def _ply(mesh: Mesh) -> bytes:
    mesh = welded(mesh)
    vertex: list[tuple[Any, ...]] = [("place", "<f4", 3)]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    if mesh.colours is not None:
        vertex.append(("colour", "u1", 3))
        header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header", ""]
    vertices = np.zeros(len(mesh.vertices), vertex)
    vertices["place"] = _z_up(mesh.vertices)
    if mesh.colours is not None:
        vertices["colour"] = mesh.colours
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return b"".join(["\n".join(header).encode(), vertices.data, faces.data])


# --- Text: a template as long as the mesh, filled in one go, is several times quicker than a line at a time. Quicker
# --- still, where few texts stand in many places, is a table of their bytes, from which lines are put together by row.


def _lines(template: str, columns: NDArray[Any]) -> str:
    return (template * len(columns)) % tuple(columns.ravel().tolist())


def _table(texts: Iterable[str]) -> NDArray[np.uint8]:
    """(N,W) the bytes of N texts, the shorter ones filled up with NUL."""
    table = np.array(list(texts), "S")
    return table.view(np.uint8).reshape(len(table), -1)


def _rows(template: str, *columns: NDArray[np.uint8]) -> bytes:
    """A line for each row of the tables, which takes the place of a %s in the template."""
    first, *others = (np.frombuffer(text.encode(), np.uint8) for text in template.split("%s"))
    pieces = [np.broadcast_to(first, (len(columns[0]), len(first)))]
    for column, text in zip(columns, others, strict=True):
        pieces += [column, np.broadcast_to(text, (len(column), len(text)))]
    return np.hstack(pieces).tobytes().translate(None, b"\0")


def _named(count: int, faces: NDArray[np.integer[Any]], start: int = 0) -> list[NDArray[np.uint8]]:
    """The three columns of the faces, whose corners are below `count`, as tables of numbers from `start` on."""
    names = _table(map(str, range(start, start + count)))
    return [names.take(corner, axis=0) for corner in faces.T]


def _obj(mesh: Mesh) -> bytes:
    mesh = welded(mesh)
    number = f"%.{decimals(mesh)}f"
    lines = _lines(f"v {number} {number} {number}\n", _z_up(mesh.vertices))
    vertices = lines.encode()
    if mesh.colours is not None:
        shades = _table(f"{step / 255:.4f}" for step in range(256))
        channels = (shades.take(channel, axis=0) for channel in mesh.colours.T)
        vertices = _rows("%s %s %s %s\n", _table(lines.splitlines()), *channels)
    faces = _rows("f %s %s %s\n", *_named(len(mesh.vertices), mesh.faces, start=1))
    return b"# millimetres, +Z up\n" + vertices + faces


# --- 3MF: core specification 1.3 and the colour groups of the materials extension 1.2, https://3mf.io/spec ----------

_3MF_TYPES = """<?xml version="1.0" encoding="UTF-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>
</Types>
"""
_3MF_RELATIONS = """<?xml version="1.0" encoding="UTF-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="rel0" Target="/3D/3dmodel.model" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>
</Relationships>
"""
_3MF_MODEL = """<?xml version="1.0" encoding="UTF-8"?>
<model unit="millimeter" xml:lang="en" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" \
xmlns:m="http://schemas.microsoft.com/3dmanufacturing/material/2015/02">
<resources>
{colours}<object id="1" type="model"{painted}><mesh><vertices>
{vertices}</vertices><triangles>
{triangles}</triangles></mesh></object>
</resources>
<build><item objectid="1"/></build>
</model>
"""


def _3mf(mesh: Mesh) -> bytes:
    mesh = welded(mesh)
    number = f"%.{decimals(mesh)}f"
    triangle, columns = '<triangle v1="%s" v2="%s" v3="%s"', _named(len(mesh.vertices), mesh.faces)
    colours = painted = ""
    if mesh.colours is not None:
        palette, shade = np.unique(mesh.colours.astype(np.int32) @ (0x10000, 0x100, 1), return_inverse=True)
        colours = '<m:colorgroup id="2">\n' + _lines('<m:color color="#%06X"/>\n', palette) + "</m:colorgroup>\n"
        painted = ' pid="2" pindex="0"'
        triangle += ' pid="2" p1="%s" p2="%s" p3="%s"'
        columns += _named(len(palette), shade.take(mesh.faces))
    model = _3MF_MODEL.format(
        colours=colours,
        painted=painted,
        vertices=_lines(f'<vertex x="{number}" y="{number}" z="{number}"/>\n', _z_up(mesh.vertices)),
        triangles=_rows(triangle + "/>\n", *columns).decode(),
    )
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        for name, text in (
            ("[Content_Types].xml", _3MF_TYPES),
            ("_rels/.rels", _3MF_RELATIONS),
            ("3D/3dmodel.model", model),
        ):
            entry = zipfile.ZipInfo(name)  # dated 1980, so that the bytes do not depend on the day
            entry.create_system = 0  # nor on the machine
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED, compresslevel=4)
    return package.getvalue()


# --- GLB: glTF 2.0, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html ---------------------------------------

_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_SMOOTH = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}  # mipmapped, clamped to the edge


class _Buffer:
    """The binary chunk as it grows, with the bufferViews and accessors that point into it."""

    def __init__(self) -> None:
        self.size = 0
        self.data: list[bytes] = []
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, **fields: int) -> int:
        self.views.append({"buffer": 0, "byteOffset": self.size, "byteLength": len(data), **fields})
        self.data += [data, bytes(-len(data) % 4)]
        self.size += len(data) + -len(data) % 4
        return len(self.views) - 1

    def vectors(self, array: NDArray[np.floating[Any]], bounds: bool = False) -> int:
        values = np.ascontiguousarray(array, "<f4")
        accessor = {
            "bufferView": self.view(values.tobytes(), target=_ARRAY_BUFFER),
            "componentType": _FLOAT,
            "count": len(values),
            "type": f"VEC{values.shape[1]}",
        }
        if bounds:
            low, high = topology.bounds(values)
            accessor |= {"min": low.tolist(), "max": high.tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def indices(self, faces: NDArray[np.int32], count: int) -> int:
        kind, name = ("<u2", _USHORT) if count <= 0xFFFF else ("<u4", _UINT)  # the number 0xFFFF itself is reserved
        view = self.view(faces.astype(kind).tobytes(), target=_ELEMENT_BUFFER)
        self.accessors.append({"bufferView": view, "componentType": name, "count": faces.size, "type": "SCALAR"})
        return len(self.accessors) - 1


def _linear(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """sRGB to the linear light in 0..1 that glTF defines COLOR_0 to be (IEC 61966-2-1)."""
    step = np.arange(256) / 255
    table = np.where(step <= 0.04045, step / 12.92, ((step + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[colours]


def _encoded(texture: NDArray[np.uint8]) -> tuple[bytes, str]:
    """The picture's bytes and MIME type."""
    picture, file = Image.fromarray(texture), io.BytesIO()
    if picture.width * picture.height <= _LOSSLESS_PIXELS:
        picture.save(file, "PNG")
        return file.getvalue(), "image/png"
    picture.save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue(), "image/jpeg"


def _glb(mesh: Mesh) -> bytes:
    first, place = topology.places(mesh.vertices)
    normals = topology.vertex_normals(mesh.vertices[first], place.take(mesh.faces))
    buffer = _Buffer()
    attributes = {
        "POSITION": buffer.vectors(mesh.vertices.astype(np.float64) / 1000, bounds=True),
        "NORMAL": buffer.vectors(normals.take(place, axis=0)),  # smooth across texture seams
    }
    surface: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": 0.8}
    content: dict[str, Any] = {"asset": {"version": "2.0", "generator": "ORFEAS"}}
    if mesh.uv is not None and mesh.texture is not None:
        attributes["TEXCOORD_0"] = buffer.vectors(mesh.uv * (1, -1) + (0, 1))  # glTF counts v from the top
        picture, mime = _encoded(mesh.texture)
        content["images"] = [{"bufferView": buffer.view(picture), "mimeType": mime}]
        content["samplers"] = [_SMOOTH]
        content["textures"] = [{"sampler": 0, "source": 0}]
        surface["baseColorTexture"] = {"index": 0}
    elif mesh.colours is not None:
        attributes["COLOR_0"] = buffer.vectors(_linear(mesh.colours))
    indices = buffer.indices(mesh.faces, len(mesh.vertices))
    content |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "model"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": surface, "doubleSided": False}],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": buffer.size}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = b"glTF" + np.array([2, 28 + len(text) + buffer.size, len(text)], "<u4").tobytes() + b"JSON"
    return b"".join([head, text, buffer.size.to_bytes(4, "little"), b"BIN\0", *buffer.data])


WRITERS: Mapping[str, Callable[[Mesh], bytes]] = MappingProxyType(
    {"stl": _stl, "obj": _obj, "glb": _glb, "ply": _ply, "3mf": _3mf}
)
"""A writer for each format of `formats.FORMATS`."""
