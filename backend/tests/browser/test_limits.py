"""What the server says of its limits and models decides what the page offers, asks for and refuses."""

import re

import pytest
from live_server import encode, fresh_png
from page import visit
from PIL import Image

VALUES = "all => all.map((each) => each.value)"
LIKE_PYDANTIC = {
    "type": "object",
    "$defs": {
        "Sides": {
            "type": "object",
            "properties": {
                side: {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 500}, {"type": "null"}]}
                for side in ("width", "height", "depth")
            },
        },
        "Background": {"enum": ["auto", "false", "sky"]},
    },
    "properties": {
        "quality": {"type": "integer", "minimum": 1, "maximum": 10, "default": 7},
        "format": {"enum": ["stl", "glb", "usdz"], "default": "glb"},
        "seed": {"type": "integer", "minimum": 0, "maximum": 99, "default": 0},
        "dimensions": {"$ref": "#/$defs/Sides", "default": {}},
        "target_faces": {
            "anyOf": [{"type": "integer", "minimum": 8, "maximum": 9000}, {"type": "null"}],
            "default": None,
        },
        "remove_background": {"$ref": "#/$defs/Background", "default": "auto"},
        "prompt": {"type": "string", "maxLength": 40, "default": ""},
    },
}


def reading(**properties):
    return {"parameters": {"type": "object", "properties": properties}}


MODELS = [
    {
        "id": "builtin",
        "loaded": True,
        "available": True,
        "reason": None,
        "licence": "MIT",
        "reads": ["image", "quality"],
        "expected_seconds": {},
        **reading(quality={"type": "integer", "minimum": 1, "maximum": 4, "default": 3}),
    },
    {
        "id": "painter",
        "loaded": False,
        "available": True,
        "reason": None,
        "licence": "MIT",
        "reads": ["image", "quality", "seed", "prompt"],
        "expected_seconds": {"2": 90},
        **reading(quality={"type": "integer", "minimum": 1, "maximum": 5, "default": 2}, seed={}, prompt={}),
    },
    {
        "id": "giant",
        "loaded": False,
        "available": False,
        "reason": "it needs 80 GB",
        "licence": "MIT",
        "reads": ["image"],
        "expected_seconds": {},
        **reading(),
    },
]


@pytest.fixture
def page(chromium, server):
    """The page of a server that says what it takes."""
    with visit(chromium, server.address) as page:

        def answer(route):
            limits = {"max_upload_mb": 0.02, "image_formats": ["PNG", "WEBP"]}
            body = {**route.fetch().json(), "default": "builtin", "models": MODELS}
            route.fulfill(json={**body, "request": LIKE_PYDANTIC, "limits": limits})

        page.page.route("**/api/models-info", answer)
        page.open().page.wait_for_selector("#models input:checked")
        yield page
        page.assert_quiet()


def test_options_are_offered_and_refused_as_the_server_says(page):
    page.expect("#quality").to_have_attribute("max", "4")
    page.expect("#quality").to_have_value("3")
    page.expect("#quality-word").to_have_text("3 · Fine")
    page.expect("#picture-formats").to_have_text("PNG or WebP")
    page.choose(("one.png", fresh_png()))
    page.wait_until_sent()
    page["#advanced summary"].click()
    page.expect("#seed").to_be_hidden()
    assert page["#remove_background option"].evaluate_all(VALUES) == ["auto", "false", "sky"]
    page["#millimetres"].fill("501")
    page["#target_faces"].fill("9001")
    page["#make"].click()
    page.expect("#millimetres-error").to_have_text("Give a number of millimetres, more than 0 and up to 500.")
    page.expect("#target_faces-error").to_have_text("Give a whole number from 8 to 9,000, or leave it empty.")
    page["#millimetres"].fill("50")
    page["#target_faces"].fill("")
    with page.page.expect_request("**/api/generate-3d") as asked:
        page["#make"].click()
    assert "model" not in asked.value.post_data_json
    page.wait_until_made()
    assert page["[name=download-format]"].evaluate_all(VALUES) == ["glb", "stl", "usdz"]
    page.expect("[name=download-format][value=glb]").to_be_checked()


def test_another_model_is_chosen_with_its_own_options_and_remembered(page):
    page.expect("#models").to_contain_text("Not available: it needs 80 GB.")
    page.expect("#models").to_contain_text("Loaded on first use.")
    assert page["#models input[value=giant]"].is_disabled()
    page["#models input[value=painter]"].check()
    page.page.reload()
    page.expect("#models input[value=painter]").to_be_checked()
    page["#advanced summary"].click()
    page.expect("#quality").to_have_attribute("max", "5")
    page.expect("#quality").to_have_value("2")
    page.expect("#quality-note").to_have_text(re.compile("about 1 min 30 s as in past runs", re.IGNORECASE))
    page.expect("#prompt").to_have_attribute("maxlength", "40")
    page["#seed"].fill("100")
    page.choose(("one.png", fresh_png()))
    page.wait_until_sent()
    page["#make"].click()
    page.expect("#seed-error").to_have_text("Give a whole number from 0 to 99.")
    page["#seed"].fill("5")
    with page.page.expect_response("**/api/generate-3d") as asked:
        page["#make"].click()
    wish = asked.value.request.post_data_json
    assert (wish["model"], wish["seed"], wish["quality"]) == ("painter", 5, 2)
    page.expect("#make-note").to_contain_text("there is no model 'painter'")  # as the server has none in truth
    page.complaints.clear()
    page["#defaults"].click()
    page.expect("#models input[value=builtin]").to_be_checked()


def test_a_file_that_is_too_large_is_not_even_sent(page):
    noise = Image.effect_noise((300, 300), 90)
    page.choose(("large.png", encode(noise)))
    page.expect("#make-note").to_contain_text("The picture is larger than 0.02 MB. Make the picture smaller")
    assert not any("upload-image" in url for url in page.asked)


@pytest.mark.parametrize("code", [404, 410])
def test_a_picture_that_the_server_has_lost_is_sent_again(visitor, code):
    answers = []

    def lose(route):
        answers.append(route.request.post_data_json["job_id"])
        if len(answers) > 1:
            return route.continue_()
        return route.fulfill(status=code, json={"error": "the picture is gone", "code": "upload_lost", "details": {}})

    visitor.page.route("**/api/generate-3d", lose)
    visitor["#quality"].fill("1")
    visitor.choose(("one.png", fresh_png()))
    visitor.wait_until_sent()
    visitor.make()
    assert len(set(answers)) == 2
    visitor.complaints.clear()
