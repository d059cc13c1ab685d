"""How pictures come in, and the mask of the object in them."""

import io
import re

import numpy as np
from live_server import draw, encode, fresh_png
from PIL import Image


def mask_of(visitor, job_id):
    answer = visitor.page.request.get(f"{visitor.address}/api/jobs/{job_id}/mask")
    return np.asarray(Image.open(io.BytesIO(answer.body())))


def test_a_dropped_and_a_pasted_picture_are_shown_at_once_and_sent(visitor):
    visitor.drop(("dropped.png", fresh_png()))
    visitor.expect("#photo").to_be_visible()
    visitor.wait_until_sent()
    visitor.paste(("image.png", fresh_png()))
    visitor.expect("#rows li").to_have_count(2)
    visitor.expect("#rows li").to_have_text([re.compile("dropped.png"), re.compile("pasted")])
    visitor.expect("#make").to_have_text("Make 2 models")


def test_several_pictures_make_a_queue_with_a_row_each(visitor):
    visitor["#quality"].fill("1")
    visitor.choose(*((f"{i}.png", fresh_png()) for i in range(3)))
    visitor.expect("#make").to_have_text("Make 3 models")
    visitor["#make"].click()
    visitor.expect("#rows li[data-state=done]").to_have_count(3)
    visitor.expect("#history li img.shot:not(.photo)").to_have_count(3)
    visitor["#rows .row >> nth=2"].click()
    visitor.expect("#rows li[data-current=true]").to_contain_text("2.png")
    visitor.wait_until_made()


def test_a_phone_photo_is_upright_and_its_mask_lies_on_it(visitor):
    upright = draw(size=(120, 200))
    exif = Image.Exif()
    exif[274] = 6  # turn by a quarter to the right to see it
    photo = encode(upright.convert("RGB").rotate(90, expand=True), "JPEG", exif=exif)
    visitor.choose(("photo.jpg", photo))
    visitor.wait_until_sent()
    picture, mask = visitor["#photo"].bounding_box(), visitor["#mask"].bounding_box()
    assert picture["height"] > picture["width"]
    for side in ("x", "y", "width", "height"):
        assert abs(picture[side] - mask[side]) < 3


def test_what_is_no_picture_is_refused_with_what_to_do_next(visitor):
    visitor.choose(("notes.txt", b"not a picture"))
    visitor.expect("#make-note").to_contain_text("Save it as PNG or JPEG")
    visitor.complaints.clear()  # Chromium logs every answer from 400 up


def test_what_is_no_picture_is_not_counted_and_shows_no_other_note(visitor):
    visitor.choose(("one.png", fresh_png()))
    visitor.wait_until_sent()
    visitor.choose(("notes.txt", b"not a picture"))
    visitor.expect("#make-note").to_contain_text("Save it as PNG or JPEG")
    visitor.expect("#make").to_have_text("Make the model")
    visitor.expect("#mask-note").to_be_empty()
    visitor["#rows .row >> nth=0"].click()
    visitor.expect("#make").to_have_text("Make the model")
    visitor.complaints.clear()


def test_all_strokes_are_left_and_others_wait_while_another_picture_is_looked_at(visitor):
    visitor.choose(("one.png", fresh_png()), ("two.png", fresh_png()))
    visitor.expect("#rows li[data-state=ready]").to_have_count(2)
    visitor.wait_until_sent()
    untouched = visitor.pixels("#mask")
    visitor["#mask-edit"].click()
    press = visitor.page.keyboard.press
    press("x")
    for i in range(30):  # more than can be undone one by one
        press("ArrowRight" if i % 2 else "ArrowDown")
        press("Space")
    visitor["#rows .row >> nth=1"].click()
    visitor.expect("#mask-tools").to_be_hidden()
    visitor["#rows .row >> nth=0"].click()
    visitor.expect("#mask-tools").to_be_visible()
    visitor.expect("#mask-undo").to_be_enabled()
    visitor["#mask-drop"].click()
    visitor.expect("#mask-tools").to_be_hidden()
    visitor.expect("#mask-note").to_be_empty()
    assert (abs(visitor.pixels("#mask") - untouched) > 12).mean() < 0.001


def test_a_mask_painted_where_nothing_was_found_ends_the_error_and_another_asks_for_a_new_model(visitor):
    visitor["#quality"].fill("1")
    visitor.choose(("flat.png", encode(Image.new("RGB", (120, 90), (120, 120, 120)))))
    visitor.wait_until_sent()
    visitor["#make"].click()
    visitor.expect("#make-note.error").to_be_visible()
    note, side = visitor["#make-note"].bounding_box(), visitor[".side"].bounding_box()
    assert note["y"] + note["height"] <= side["y"] + side["height"]
    for key in ("Space", "ArrowLeft"):
        visitor["#mask-edit"].click()
        visitor.expect("[name=brush][value=add]").to_be_checked()
        visitor.expect("#mask").to_be_focused()
        visitor.page.keyboard.press(key)
        visitor.page.keyboard.press("Space")
        visitor["#mask-use"].click()
        visitor.expect("#mask-auto").to_be_visible()
        visitor.expect("#make-note.error").to_have_count(0)
        visitor.expect("#make").to_have_text("Make the model")
        if key == "Space":
            visitor.make()
            visitor.expect("#make").to_have_text("Make it again")
    visitor.expect("#make-note").to_contain_text("The mask has changed")
    visitor.complaints.clear()


def test_the_mask_is_painted_used_and_taken_back(visitor):
    visitor.choose(("cup.png", fresh_png()))
    visitor.wait_until_sent()
    job_id = visitor.job_id
    found = mask_of(visitor, job_id)
    visitor["#mask-edit"].click()
    box = visitor["#mask"].bounding_box()
    visitor["[name=brush][value=remove]"].check(force=True)
    visitor["#brush-size"].fill("20")
    mouse = visitor.page.mouse
    mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.5)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5, steps=4)
    mouse.up()
    visitor["#mask-undo"].click()
    visitor.expect("#mask-undo").to_be_disabled()
    visitor["#mask"].focus()
    for key in ("x", "Space", "ArrowRight", "Space"):
        visitor.page.keyboard.press(key)
    visitor["#mask-use"].click()
    visitor.expect("#mask-auto").to_be_visible()
    painted = mask_of(visitor, job_id)
    assert painted.shape == found.shape
    assert (found > 127).sum() > (painted > 127).sum() > 0

    visitor["#quality"].fill("2")
    visitor.make()
    with_mask = visitor.text("#facts")
    visitor["#mask-auto"].click()
    visitor.expect("#mask-auto").to_be_hidden()
    visitor.expect("#make").to_be_enabled()
    assert visitor.job_id != job_id  # the finished model keeps its own mask
    assert (mask_of(visitor, visitor.job_id) == found).all()
    assert (mask_of(visitor, job_id) == painted).all()
    visitor["#make"].click()
    visitor.expect("#history li").to_have_count(len(visitor["#history li"].all()) + 1)
    assert visitor.text("#facts") != with_mask
