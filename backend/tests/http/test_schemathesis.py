"""Whatever is asked within the description of the API or against it, the server keeps to the description."""

import base64
import math

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_server import draw, encode
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from support.desk import JOBS, PICTURE, open_desk

from web.responses import STATUS

CASES, CASES_SLOW = 500, 20_000
FAULTS_WITH_A_NAME = (501, 503, 507)
MASK = encode(draw(size=(80, 90)).getchannel("A"))
load_all_checks()
CONFORMANCE = CHECKS.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)


@pytest.fixture
def desk(tmp_path):
    with open_desk(tmp_path) as desk:
        yield desk


def as_a_client_would(case, desk, kind, luck):
    """Half of the cases name things that exist, or they would hardly get past 404 and 415; none waits for long."""
    if isinstance(case.query.get("wait"), int | float):
        case.query["wait"] = math.copysign(min(abs(case.query["wait"]), 0.01), case.query["wait"])
    if luck < 5:
        return
    job, odd = desk.job(kind), luck % 2
    real = {"job_id": job.id, "filename": (f"model_{job.id}.3mf", "model.stl")[odd]}
    if "/preview/" in case.path:
        real["filename"] = job.pictures["front"].name
    if case.path == "/{filename}":
        real["filename"] = ("studio.css", "studio.js")[odd]
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({name: value for name, value in real.items() if name in part})
    if case.media_type in ("image/png", "image/webp"):
        case.body = MASK
    elif isinstance(case.body, dict):
        picture = PICTURE if case.media_type == "multipart/form-data" else base64.b64encode(PICTURE).decode()
        case.body.update(dict.fromkeys({"image", "front", "back"} & case.body.keys(), picture))


def tried(operation, mode, count, desk):
    """Try so many different cases, or as many as there are; how many there were."""
    number = 0

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(operation.as_strategy(generation_mode=mode), st.sampled_from(JOBS), st.integers(0, 9))
    def attempt(case, kind, luck):
        nonlocal number
        number += 1
        as_a_client_would(case, desk, kind, luck)
        response = case.call()
        assert response.status_code < 500 or response.status_code in FAULTS_WITH_A_NAME, response.text
        case.validate_response(response, checks=CONFORMANCE)
        if response.status_code >= 400:
            error = response.json()
            assert error.keys() == {"error", "code", "details"}
            assert STATUS[error["code"]] == response.status_code

    attempt()
    return number


def test_the_server_keeps_to_its_description(desk, request):
    wanted = CASES_SLOW if request.config.getoption("--slow") else CASES
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", desk.app)
    operations = [each.ok() for each in schema.get_all_operations()]
    with_input = [each for each in operations if each.body or each.path_parameters or each.query or each.headers]
    done, failures = 0, []
    for operation in operations:
        share = math.ceil(wanted / len(with_input)) if operation in with_input else 1
        # What stands in the path is text, so nothing but a query or an object of fields can go against the description.
        fields = operation.query or any("image/" not in body.media_type for body in operation.body)
        against = share // 2 if fields else 0
        for mode, count in ((GenerationMode.NEGATIVE, against), (GenerationMode.POSITIVE, share - against)):
            try:
                done += tried(operation, mode, count, desk) if count else 0
            except Exception as failure:
                failures.append(f"{operation.label}, {mode.value}: {failure}")
            except ExceptionGroup as group:
                failures += [f"{operation.label}, {mode.value}: {failure}" for failure in group.exceptions]
    assert not failures, "\n\n".join(failures)
    assert done >= wanted
