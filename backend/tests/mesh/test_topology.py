"""Against definitions written out face by face, on small meshes of every sort: open, crossed, degenerate, empty."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import shapes
from hypothesis import given
from hypothesis import strategies as st

from mesh import topology

CORNERS = 9
TETRAHEDRON = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (2, 0, 3)]
triples = st.tuples(*[st.integers(0, CORNERS - 1)] * 3)
solids = st.permutations(range(CORNERS)).map(lambda name: [tuple(name[i] for i in face) for face in TETRAHEDRON])


@st.composite
def meshes(draw):
    """Tetrahedra that may share corners, edges and faces, some of their faces lost or turned, and loose faces."""
    faces = [face for solid in draw(st.lists(solids, max_size=3)) for face in solid]
    for number in draw(st.lists(st.integers(0, 11), max_size=2)):
        if number < len(faces):
            faces[number : number + 1] = [faces[number][::-1]] if draw(st.booleans()) else []
    faces += draw(st.lists(triples, max_size=draw(st.sampled_from([0, 2, 12]))))
    kind = draw(st.sampled_from([np.int32, np.int64]))
    return np.array(draw(st.permutations(faces)), kind).reshape(-1, 3)


points = st.lists(st.tuples(*[st.sampled_from([-2.5, -1.0, -0.0, 0.0, 1e-7, 1.0, 3.0])] * 3), max_size=30).map(
    lambda rows: np.array(rows, np.float32).reshape(-1, 3)
)


def uses(faces) -> Counter:
    """How many faces run along each edge, by direction."""
    return Counter((face[i], face[i - 2]) for face in faces.tolist() for i in range(3))


def groups(items) -> dict:
    """The first item of the group that each one is in, by what they hold in common."""
    first: dict = {}
    return {number: first.setdefault(key, number) for number, key in enumerate(items)}


@given(meshes())
def test_closed_is_every_edge_once_in_each_direction(faces):
    edges = uses(faces)
    once = all(count == 1 and edges[edge[::-1]] == 1 for edge, count in edges.items())
    assert topology.is_closed(faces) is (once and len(faces) > 0)


@given(meshes())
def test_balanced_is_every_edge_as_often_in_each_direction(faces):
    edges = uses(faces)
    even = all(edges[edge[::-1]] == count for edge, count in list(edges.items()))
    assert topology.is_balanced(faces) is (even and len(faces) > 0)


@pytest.mark.parametrize("shape", [shapes.sphere, shapes.torus, shapes.signpost])
def test_a_solid_is_closed_until_a_face_is_lost_doubled_or_turned(shape):
    faces = shape().faces
    assert topology.is_closed(faces)
    assert not topology.is_closed(faces[1:])
    assert not topology.is_closed(np.vstack([faces, faces[:1]]))
    assert not topology.is_closed(np.vstack([faces[1:], faces[:1, ::-1]]))


def test_solids_that_share_an_edge_are_balanced_and_not_closed():
    faces = np.array([*TETRAHEDRON, *np.array([0, 1, 4, 5])[TETRAHEDRON]])
    assert topology.is_balanced(faces)
    assert not topology.is_closed(faces)


@given(meshes())
def test_parts_are_faces_that_vertices_connect(faces):
    part = topology.parts(faces, CORNERS)
    assert sorted(set(part.tolist())) == list(range(len(set(part.tolist()))))
    reached = [frozenset(face) for face in faces.tolist()]
    for _ in faces:
        reached = [frozenset().union(*(other for other in reached if other & face)) for face in reached]
    assert groups(part.tolist()) == groups(reached)


@given(points)
def test_welding_joins_the_same_points_in_the_order_of_their_coordinates(vertices):
    first, place = topology.weld(vertices)
    rows = [tuple(row) for row in vertices.tolist()]  # -0.0 == 0.0
    assert [rows[number] for number in first] == sorted(set(rows))
    assert [rows[first[number]] for number in place] == rows
    assert all(rows.index(rows[number]) == number for number in first)


@given(points, st.sampled_from([0.4, 1.0, 2.0]))
def test_welding_on_a_grid_joins_what_rounds_to_one_step(vertices, cell):
    if not len(vertices):
        return
    steps = np.rint((vertices - vertices.min(axis=0)) / cell)
    first, place = topology.weld(vertices, cell)
    expected, expected_place = topology.weld(steps)
    assert np.array_equal(first, expected)
    assert np.array_equal(place, expected_place)


@given(points, st.sampled_from([0.0, 1e-6, 1.2, 3.0]))
def test_welding_what_is_near_joins_chains_of_points(vertices, distance):
    first, place = topology.weld_near(vertices, distance)
    apart = np.linalg.norm(vertices[:, None].astype(float) - vertices[None], axis=2)
    linked = apart <= distance
    for _ in vertices:
        linked = linked @ linked
    assert np.array_equal(place[:, None] == place[None], linked)
    assert np.array_equal(place[first], np.arange(len(first)))


@given(meshes())
def test_vertices_without_a_face_are_dropped(faces):
    used, compact = topology.drop_unreferenced(faces, CORNERS)
    assert used.tolist() == sorted(set(faces.ravel().tolist()))
    assert np.array_equal(used[compact], faces)
    assert np.flatnonzero(topology.is_used(faces, CORNERS)).tolist() == used.tolist()


@pytest.mark.parametrize("turned", range(16))
def test_turning_faces_over_makes_all_of_a_solid_look_the_same_way(turned):
    solid, over = np.array(TETRAHEDRON), turned >> np.arange(4) & 1 == 1
    back = topology.disagreeing(np.where(over[:, None], solid[:, ::-1], solid))
    assert (back ^ over).all() or not (back ^ over).any()
    assert back.sum() <= 2


@given(points.filter(len), st.data())
def test_normals_lengths_and_bounds_are_what_numpy_says_to_the_bit(vertices, data):
    corner = st.integers(0, len(vertices) - 1)
    faces = np.array(data.draw(st.lists(st.tuples(corner, corner, corner), max_size=8)), np.int32).reshape(-1, 3)
    a, b, c = (vertices[corner].astype(float) for corner in faces.T)
    normals = topology.cross(vertices, faces)
    assert np.array_equal(normals, np.cross(b - a, c - a))
    assert np.array_equal(topology.lengths(normals), np.linalg.norm(normals, axis=1))
    assert np.array_equal(topology.bounds(vertices), [vertices.min(axis=0), vertices.max(axis=0)])
    assert topology.longest(vertices) == np.ptp(vertices, axis=0).max()
