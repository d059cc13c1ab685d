"""A job under way, as the page shows it: stages, queue, cancel, reload, and a server that goes away."""

import re
import signal

import pytest
from live_server import BACKEND, fresh_png, running_server, scripted_server
from page import visit


def begin(page, *names):
    page.choose(*((name, fresh_png()) for name in names))
    page.page.wait_for_selector("#make:enabled")
    page.expect("#rows li[data-state=ready]").to_have_count(len(names))
    page["#make"].click()


def test_stages_the_queue_and_cancel(directed):
    page, client = directed
    client.conductor.hold = True
    begin(page, "one.png", "two.png")
    run = client.conductor.next_run()
    page.expect("#stages li[data-state=now]").to_contain_text("Building the shape")
    page.expect("#elapsed").to_contain_text("so far")
    page.expect("#live").to_have_text("Building the shape.")
    page.expect("#rows li >> nth=1").to_contain_text("number 1 in the queue")
    page["#cancel"].click()
    run.wait_until_cancelled()
    page.expect("#rows li >> nth=0").to_contain_text("Cancelled")
    page.expect("#work").to_be_hidden()
    page.expect("#make").to_have_text("Try again")

    client.conductor.next_run().end()
    page.expect("#rows li[data-state=done]").to_have_count(1)
    client.conductor.hold = False
    page["#make"].click()
    page.wait_until_made()
    page.assert_quiet()


def test_a_reload_in_mid_job_goes_on_where_it_was(directed):
    page, client = directed
    client.conductor.hold = True
    begin(page, "one.png")
    run = client.conductor.next_run()
    page.expect("#stages li[data-state=now]").to_contain_text("Building")
    job_id = page.job_id
    page.page.reload()
    page.expect("#work").to_be_visible()
    page.expect("#photo").to_be_visible()
    assert page.job_id == job_id
    run.end()
    page.wait_until_made()
    assert client.conductor.runs == 1
    page.assert_quiet()


def test_a_failure_says_why_and_what_to_do_and_the_next_try_works(directed):
    page, client = directed
    client.conductor.hold = True
    begin(page, "one.png")
    client.conductor.next_run().end("oom")
    page.expect("#make-note").to_contain_text("Lower the quality")
    client.conductor.hold = False
    page["#make"].click()
    page.wait_until_made()
    page.assert_quiet()


@pytest.mark.parametrize(
    ("control", "known"),
    [
        *(("#make", False), ("#history .link", True)),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("#make", True), ("#history .link", False))),
    ],
    ids=["button, found out by the page", "history, known before", "button, known before", "history, found out"],
)
def test_a_model_that_had_to_make_room_says_so_and_is_made_again_with_one_click(directed, tmp_path, control, known):
    page, client = directed
    page["#quality"].fill("3")
    begin(page, "one.png")
    page.wait_until_made()
    job_id = page.job_id
    for result in (tmp_path / "data" / "results").iterdir():
        result.unlink()
    client.post("/api/cache/clear")
    if known:
        assert client.get(f"/api/download/{job_id}/model.glb").status_code == 409
    page["#defaults"].click()
    page.page.reload()
    page.expect("#make-note").to_contain_text("had to make room")
    page.expect("#make").to_have_text("Make it again")
    page.expect("#result").to_be_hidden()
    page.expect("#rows li").to_contain_text("had to make room")
    page.expect(f"#history li[data-job='{job_id}']").to_contain_text("Had to make room")

    page[control].click()
    page.wait_until_made()
    page.expect(f"#history li[data-job='{job_id}']").not_to_contain_text("Had to make room")
    assert page.job_id == job_id
    assert client.status(job_id)["quality"] == 3
    assert client.conductor.runs == 2
    assert all("409" in line for line in page.complaints)


def test_a_model_that_had_to_make_room_stays_in_the_history_until_it_is_deleted_there(directed, tmp_path):
    page, client = directed
    begin(page, "one.png")
    page.wait_until_made()
    job_id = page.job_id
    for result in (tmp_path / "data" / "results").iterdir():
        result.unlink()
    client.post("/api/cache/clear")
    client.get(f"/api/download/{job_id}/model.glb")
    page.page.reload()
    page.expect("#rows li[data-state=failed]").to_have_count(1)
    page["#rows .tool"].click()
    page.expect("#rows li").to_have_count(0)
    page.expect(f"#history li[data-job='{job_id}']").to_have_count(1)
    page["#history .open"].click()
    page.expect("#make-note").to_contain_text("had to make room")
    page["#history .tool"].click()
    page["#ask-yes"].click()
    page.expect("#history li").to_have_count(0)
    page.expect("#rows li").to_have_count(0)
    assert client.get(f"/api/job-status/{job_id}").status_code == 404
    page.assert_quiet()


def test_the_seed_is_offered_as_this_model_reads_it_and_the_prompt_is_not(directed):
    page, client = directed
    page["#advanced summary"].click()
    page.expect("#seed").to_be_visible()
    page.expect("#prompt").to_be_hidden()
    page["#seed"].fill("-1")
    begin(page, "one.png")
    page.expect("#seed-error").to_contain_text(re.compile("whole number|0 or more"))  # here, or by the server itself
    page["#seed"].fill("77")
    page["#make"].click()
    page.wait_until_made()
    assert client.status(page.job_id)["seed"] == 77
    assert "builtin" in page.text("#models").lower() or "built-in" in page.text("#models").lower()
    page.expect("#models").to_contain_text(re.compile("ORFEAS_MODEL=builtin|Loaded on first use"))


@pytest.mark.parametrize(
    "reloaded", [pytest.param(False, marks=pytest.mark.slow), True], ids=["as it was", "after a reload"]
)
def test_a_server_killed_in_mid_job_is_said_waited_for_and_the_job_carried_on(chromium, tmp_path, reloaded):
    with scripted_server(tmp_path) as client, visit(chromium, client.address) as page:
        client.conductor.hold = True
        begin(page.open(), "one.png")
        client.conductor.next_run()
        page.expect("#stages li[data-state=now]").to_contain_text("Building")
        if reloaded:
            page.page.reload()
            page.expect("#stages li[data-state=now]").to_contain_text("Building")
        client.process.send_signal(signal.SIGKILL)
        page.expect("#banner").to_contain_text("does not answer")
        page.expect("#server").to_have_attribute("data-state", "lost")
        client.process.wait()
        page["#banner-retry"].click()
        page.expect("#banner").to_contain_text("Trying again in")
        client.conductor.hold = False
        again = {
            "ORFEAS_PORT": client.address.rpartition(":")[2],
            "ORFEAS_MODEL": "scripted",
            "ORFEAS_MODEL_PATH": str(client.conductor.port_file),
        }
        with running_server(tmp_path / "data", BACKEND / "tests" / "support" / "serve.py", **again):
            page.wait_until_made()
            page.expect("#banner").to_be_hidden()
            page.expect("#rows li").to_have_attribute("data-state", "done")
            page.page.close()


def test_a_server_with_a_key_asks_for_it_once_and_everything_works(chromium, tmp_path):
    with running_server(tmp_path, ORFEAS_API_KEY="open-sesame") as client, visit(chromium, client.address) as page:
        page.page.goto(client.address)
        page["#key-value"].fill("wrong")
        page.page.keyboard.press("Enter")
        page.expect("#key-error").to_contain_text("not accepted")
        page["#key-value"].fill("open-sesame")
        page.page.keyboard.press("Enter")
        page.page.wait_for_selector("#models input:checked")
        page["#quality"].fill("1")
        page.choose(("one.png", fresh_png()))
        page.wait_until_sent()
        page.make()
        name, data = page.download()
        assert name == "one.stl"
        assert len(data) > 84
        assert re.search("ORFEAS_API_KEY", page["#curl"].text_content())
        assert "open-sesame" not in page.page.content()


def test_a_key_that_is_not_given_is_not_asked_for_by_itself(chromium, tmp_path):
    with running_server(tmp_path, ORFEAS_API_KEY="open-sesame") as client, visit(chromium, client.address) as page:
        page.page.clock.install()
        page.page.goto(client.address)
        page["#key-no"].click()
        page.expect("#models").to_contain_text("needs a key")
        page.expect("#quality-word").not_to_be_empty()
        with page.page.expect_response("**/api/cache/stats"):
            page.page.clock.run_for(20_000)
        page.expect("#key").to_be_hidden()
        page["#open-cache"].click()
        page.expect("#key").to_be_visible()
