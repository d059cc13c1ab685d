"""The whole line, from a picture to files that another program reads."""

import io
import re
import shutil
import subprocess

import numpy as np
import pytest
import trimesh
from live_server import fresh_png
from page import coloured, visit
from PIL import Image


def prepared(visitor, data=None, quality=3):
    visitor.choose(("my cup.png", data or fresh_png()))
    visitor["#quality"].fill(str(quality))
    visitor.wait_until_sent()


@pytest.fixture(scope="module")
def made(chromium, server):
    """One page with a result, for the tests that only look at it or go on from it."""
    with visit(chromium, server.address) as page:
        page.picture = fresh_png()
        prepared(page.open(), page.picture)
        page.make()
        yield page
        page.assert_quiet()


def test_from_the_sample_to_a_model_on_the_screen(visitor):
    assert coloured(visitor.pixels()) < 0.001
    visitor["#sample"].click()
    visitor.expect("#photo").to_be_visible()
    visitor.wait_until_sent()
    visitor.make()
    assert coloured(visitor.pixels()) > 0.05
    width, depth, height = (float(side) for side in re.findall(r"[\d.]+", visitor.text("#facts .headline")))
    assert max(width, depth, height) == 100
    facts = visitor.text("#facts")
    assert "Triangles" in facts
    assert "cm³" in facts
    assert "Ready to print" in visitor.text("#verdict")
    assert visitor.text("#badge").startswith("made in")
    assert visitor["#result"].bounding_box()["x"] > visitor["#viewer"].bounding_box()["x"]


def test_the_same_again_is_answered_from_the_cache_and_says_what_that_saved(visitor):
    data = fresh_png()
    prepared(visitor, data, quality=8)
    visitor.make()
    prepared(visitor, data, quality=8)
    visitor["#make"].click()
    visitor.expect("#badge").to_have_text(re.compile(r"^from cache, \d+ ms · saved [\d.]+ m?s$"))


def test_every_format_says_its_size_and_can_be_read_by_trimesh(made):
    for format in ("glb", "stl", "3mf", "obj", "ply"):
        made[f"[name=download-format][value='{format}']"].check()
        made.expect("#download-text").to_have_text(re.compile(r"· [\d.]+ (kB|MB)$"))
        name, data = made.download()
        assert name == f"my cup.{format}"
        shown, unit = re.search(r"([\d.]+) (kB|MB)$", made.text("#download-text")).groups()
        assert float(shown) == pytest.approx(len(data) / (1e6 if unit == "MB" else 1e3), rel=0.06)
        mesh = trimesh.load_scene(io.BytesIO(data), file_type=format).to_mesh()
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        assert mesh.is_watertight
        assert max(mesh.extents) == pytest.approx(0.1 if format == "glb" else 100, rel=1e-3)


def test_the_copied_curl_command_repeats_the_request_or_fails(made, tmp_path):
    made.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    made["[name=download-format][value=stl]"].check()
    made["#copy-curl"].click()
    made.expect("#copy-curl").to_have_text("Copied")
    made.expect("#curl-note").to_contain_text("my cup.png")
    command = made.page.evaluate("navigator.clipboard.readText()")
    bash = shutil.which("bash")
    refused = subprocess.run([bash, "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode != 0
    assert not list(tmp_path.iterdir())

    (tmp_path / "my cup.png").write_bytes(made.picture)
    subprocess.run([bash, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert trimesh.load(tmp_path / "model.stl").is_watertight


def test_a_picture_of_the_view_is_a_png_with_the_model_in_it(made):
    name, data = made.download("#snapshot")
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert name == "my cup.png"
    assert picture.shape[2] == 4
    assert 0.02 < (picture[..., 3] == 255).mean() < 0.9


def test_a_reload_brings_back_the_picture_the_options_and_the_model(made):
    made.page.reload()
    made.wait_until_made()
    made.expect("#photo").to_be_visible()
    assert made["#quality"].input_value() == "3"
    assert "my cup.png" in made.text("#rows")


def test_times_to_expect_come_from_past_runs(made):
    made.expect("#quality-note").to_contain_text("as in past runs")


def test_the_history_keeps_a_picture_of_the_mesh_and_brings_the_options_back(made):
    job_id = made.job_id
    card = f"#history li[data-job='{job_id}']"
    made.page.wait_for_selector(f"{card} img.shot:not(.photo)")
    thumbnail = made.page.request.get(f"{made.address}/api/jobs/{job_id}/thumbnail").body()
    picture = np.asarray(Image.open(io.BytesIO(thumbnail)))
    assert picture[..., 3].min() == 0
    assert (picture[..., 3] > 200).mean() > 0.1

    made["#defaults"].click()
    assert made["#quality"].input_value() == "7"
    made["#rows .tool"].click()
    made.expect("#viewer").to_have_attribute("data-state", "empty")
    made[f"{card} .open"].click()
    made.wait_until_made()
    assert made["#quality"].input_value() == "3"
    assert made.job_id == job_id

    with made.page.expect_download() as waiting:
        made[f"{card} .strip-actions .link"].click()
        made["#save-as button[value=ply]"].click()
    assert waiting.value.suggested_filename == "my cup.ply"

    made[f"{card} .tool"].click()
    made["#ask-yes"].click()
    made.expect(card).to_have_count(0)
    assert made.page.request.get(f"{made.address}/api/job-status/{job_id}").status == 404


def test_the_address_of_a_job_that_is_gone_says_so(visitor):
    visitor.open("#job=00000000-0000-4000-8000-000000000000")
    visitor.page.reload()
    visitor.expect("#toast").to_be_visible()
    visitor.expect("#toast").to_contain_text("no longer")
    assert all("404" in line for line in visitor.complaints)
    visitor.complaints.clear()


def test_the_options_are_remembered(visitor):
    visitor["#quality"].fill("4")
    visitor["#advanced summary"].click()
    visitor["#target_faces"].fill("5000")
    visitor.page.reload()
    assert visitor["#quality"].input_value() == "4"
    assert visitor["#target_faces"].input_value() == "5000"


def test_a_bad_option_is_marked_at_its_field(visitor):
    prepared(visitor)
    visitor["#millimetres"].fill("minus ten")
    visitor["#make"].click()
    visitor.expect("#millimetres").to_be_focused()
    visitor.expect("#millimetres-error").to_contain_text("Give a number")
    visitor["#millimetres"].fill("30")
    visitor.expect("#millimetres-error").to_be_empty()


def test_one_side_is_given_and_the_others_follow(visitor):
    prepared(visitor)
    visitor.make()
    before = [float(side) for side in re.findall(r"[\d.]+", visitor.text("#facts .headline"))]
    visitor["#side"].select_option("height")
    visitor["#millimetres"].fill("42,5")
    assert "42.5 high" in visitor.text("#size-note")
    announced = [float(side) for side in re.findall(r"\d+\.\d", visitor.text("#size-note"))]
    visitor["#make"].click()
    visitor.expect("#facts .headline").to_have_text(re.compile(r"42\.5 mm"))
    after = [float(side) for side in re.findall(r"[\d.]+", visitor.text("#facts .headline"))]
    assert after == pytest.approx(announced, abs=0.11)
    assert after[0] / before[0] == pytest.approx(after[2] / before[2], rel=0.01)
    visitor.expect("#badge").to_contain_text("from cache")
