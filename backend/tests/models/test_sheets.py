"""Two sheets over silhouettes of noise, where every case of the marching squares occurs."""

import numpy as np
import pytest

from mesh import topology
from models.builtin.sheets import two_sheets


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_every_edge_has_two_faces_and_the_wall_stands_on_the_rim(seed, share):
    random = np.random.default_rng(seed)
    field = random.uniform(share - 1, share, (24, 24)).astype(np.float32)
    field[[0, -1]] = field[:, [0, -1]] = -0.5
    depth = np.full(field.shape, 0.2)
    sheets = two_sheets(field, depth, -depth)
    assert topology.is_closed(sheets.faces)
    count = len(sheets.plane)
    front = sheets.faces[(sheets.faces < count).all(axis=1)]
    edges = set(map(tuple, topology.directed_edges(front).tolist()))
    wall = sheets.faces[((sheets.faces < count).sum(axis=1) == 2)]
    on_wall = {edge for edge in map(tuple, topology.directed_edges(wall).tolist()) if max(edge) < count}
    assert on_wall == {edge[::-1] for edge in edges if edge[::-1] not in edges}
