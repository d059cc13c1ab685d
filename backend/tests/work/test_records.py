"""A job's record: what is written is read back, earlier releases are read, and all else is refused with a reason."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_server import BACKEND

from mesh.formats import FORMATS, Dimensions
from picture import VIEWS
from work.jobs import Job
from work.records import FIELDS, RECORD_VERSION, Delivery, Failure, JobStatus, RecordError, load_record
from work.request import Picture, Wishes

TEXT = st.text(max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**53), 2**53)
JSON = st.dictionaries(TEXT, st.one_of(st.none(), st.booleans(), WHOLE, NUMBER, TEXT, st.lists(NUMBER, max_size=3)))
BACKGROUND = st.sampled_from(["auto", "true", "false"])
MAYBE = st.none() | TEXT
PICTURES = st.builds(
    Picture, TEXT, TEXT, TEXT, TEXT, JSON, st.dictionaries(BACKGROUND, TEXT, max_size=3), st.none() | NUMBER, MAYBE
)
WISHES = st.builds(
    Wishes,
    format=st.sampled_from(list(FORMATS)),
    quality=st.integers(1, 10),
    dimensions=st.builds(Dimensions, *[st.none() | NUMBER] * 3),
    fit=st.sampled_from(["contain", "stretch"]),
    prompt=TEXT,
    seed=WHOLE,
    scale=st.sampled_from(["mm", "unit"]),
    target_faces=st.none() | WHOLE,
    remove_background=BACKGROUND,
    model=MAYBE,
)
TIMES = st.floats(0, 4e9)
REPORTS = st.fixed_dictionaries(
    {
        "vertices": WHOLE,
        "faces": WHOLE,
        "watertight": st.booleans(),
        "volume_mm3": NUMBER,
        "extents_mm": st.lists(NUMBER, min_size=3, max_size=3),
    }
)
DELIVERIES = st.builds(
    Delivery,
    *(TEXT, WHOLE, TEXT, MAYBE, TEXT, MAYBE, TEXT, st.booleans(), REPORTS, st.dictionaries(TEXT, NUMBER), NUMBER),
    *(MAYBE, st.none() | WISHES),
)
JOBS = st.builds(
    Job,
    id=TEXT,
    owner=MAYBE,
    created_at=TIMES,
    pictures=st.dictionaries(st.sampled_from(VIEWS), PICTURES, max_size=4),
    mask=MAYBE,
    status=st.sampled_from(JobStatus),
    wishes=WISHES,
    delivery=st.none() | DELIVERIES,
    failure=st.none() | st.builds(Failure, TEXT, TEXT, JSON),
    started_at=st.none() | TIMES,
    finished_at=st.none() | TIMES,
    has_thumbnail=st.booleans(),
    interruptions=WHOLE,
).filter(lambda job: job.delivery or job.status is not JobStatus.COMPLETED)


@settings(max_examples=60, deadline=None)
@given(JOBS)
def test_what_is_written_is_read_back(job):
    data = job.dump()
    read = load_record(data)
    assert read == {name: getattr(job, name) for name in FIELDS}
    assert Job(**read).dump() == data
    assert json.loads(data)["version"] == RECORD_VERSION


def whole():
    return json.loads(Job(id="a", owner=None, created_at=1.5, pictures={}).dump())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40) | st.builds(lambda value: json.dumps(value).encode(), JSON | st.lists(JSON) | NUMBER))
def test_whatever_else_lies_there_is_refused_and_never_harms(data):
    with pytest.raises(RecordError):
        load_record(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 500, b"[]", b"null", b'"text"', b"3", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"version": 3}'],
    ids=lambda data: repr(data[:15]),
)
def test_no_record_at_all(data):
    with pytest.raises(RecordError):
        load_record(data)


@pytest.mark.parametrize("cut", [1, 20, 200, -1])
def test_a_torn_record(cut):
    with pytest.raises(RecordError, match="no JSON object"):
        load_record(json.dumps(whole()).encode()[:cut])


@pytest.mark.parametrize("version", [0, 4, 99, -1, "2", None, [2], {"of": 2}], ids=repr)
def test_another_version_is_named(version):
    with pytest.raises(RecordError, match=r"its version is .*, this server knows 1 to 3"):
        load_record(json.dumps({**whole(), "version": version}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 5},
        {"created_at": "yesterday"},
        {"created_at": None},
        {"pictures": []},
        {"pictures": {"front": {}}},
        {"pictures": {"front": "a.png"}},
        {"mask": 5},
        {"status": "lost"},
        {"status": None},
        {"wishes": {"fit": "cover"}},
        {"wishes": {"quality": "best"}},
        {"wishes": None},
        {"delivery": {}},
        {"delivery": "a.stl"},
        {"failure": {"error": "why"}},
        {"started_at": "now"},
        {"has_thumbnail": "perhaps"},
        {"interruptions": "once"},
    ],
    ids=str,
)
def test_a_field_of_the_wrong_kind(change):
    load_record(json.dumps(whole()).encode())
    with pytest.raises(RecordError, match="a field is missing or wrong"):
        load_record(json.dumps({**whole(), **change}).encode())


@pytest.mark.parametrize("missing", ["id", "owner", "created_at", "pictures"])
def test_a_field_that_is_missing(missing):
    record = whole()
    del record[missing]
    with pytest.raises(RecordError, match="a field is missing or wrong"):
        load_record(json.dumps(record).encode())


def test_a_record_of_this_version_needs_no_field_that_has_a_default():
    record = {name: whole()[name] for name in ("version", "id", "owner", "created_at", "pictures")}
    assert Job(**load_record(json.dumps(record).encode())).dump() == json.dumps(whole()).encode()


def records_of(release):
    """By the jobs' ids."""
    outputs = BACKEND / "tests" / "fixtures" / f"data-{release}" / "outputs"
    return {path.parent.name: json.loads(path.read_bytes()) for path in outputs.glob("*/job.json")}


def as_named_now(delivery):
    """A delivery of an earlier release: it named its file by the key alone, and had a copy of its own."""
    kept = {name: value for name, value in delivery.items() if name != "etag"}
    return {**kept, "file_key": f"file:{delivery['etag']}", "sha256": None, "shape_sha256": None}


class TestRelease01:
    RECORDS = records_of("0.1")

    @pytest.mark.parametrize("job_id", RECORDS)
    def test_all_that_it_knew_is_kept(self, job_id):
        before = self.RECORDS[job_id]
        record = Job(**load_record(json.dumps(before).encode()))
        front = record.pictures["front"]
        assert record.pictures.keys() == {"front"}
        assert front.name == f"{job_id}.{before['upload']['extension']}"
        for name in ("extension", "original_filename", "sha256", "image_info", "empty"):
            assert getattr(front, name) == before["upload"][name]
        assert (record.owner, front.hidden) == (None, None)
        for name in ("format", "quality", "fit", "prompt", "seed", "scale", "target_faces", "remove_background"):
            assert getattr(record.wishes, name) == before["body"][name]
        again = json.loads(record.dump())
        for name in ("created_at", "status", "failure", "started_at", "finished_at", "mask"):
            assert again[name] == before[name]
        assert again["delivery"] == (before["delivery"] and {**as_named_now(before["delivery"]), "wishes": None})
        assert again["wishes"]["dimensions"] == before["body"]["dimensions"]
        assert Job(**load_record(json.dumps(again).encode())).dump() == record.dump()

    @pytest.mark.parametrize("missing", ["id", "upload", "body", "created_at"])
    def test_a_part_that_is_missing(self, missing):
        record = dict(next(iter(self.RECORDS.values())))
        del record[missing]
        with pytest.raises(RecordError, match="a field is missing or wrong"):
            load_record(json.dumps(record).encode())

    def test_its_first_records_knew_no_masks_no_thumbnails_and_no_savings(self):
        """Fields with a default came one by one in the course of the release."""
        record = json.loads(json.dumps(next(each for each in self.RECORDS.values() if each["delivery"])))
        for name in ("mask", "has_thumbnail", "failure"):
            record.pop(name)
        for name in ("seconds_saved", "model_note"):
            record["delivery"].pop(name)
        loaded = Job(**load_record(json.dumps(record).encode()))
        assert (loaded.mask, loaded.has_thumbnail, loaded.delivery.seconds_saved) == (None, False, 0.0)


class TestRelease02:
    RECORDS = records_of("0.2")

    @pytest.mark.parametrize("job_id", RECORDS)
    def test_all_that_it_knew_is_kept(self, job_id):
        before = self.RECORDS[job_id]
        assert before["version"] == 2
        record = Job(**load_record(json.dumps(before).encode()))
        again = json.loads(record.dump())
        delivery = before["delivery"] and as_named_now(before["delivery"])
        assert again == {**before, "version": RECORD_VERSION, "delivery": delivery, "interruptions": 0}
        assert Job(**load_record(json.dumps(again).encode())).dump() == record.dump()

    @pytest.mark.parametrize("missing", ["etag", "shape_key", "filename", "file_size", "mesh"])
    def test_a_part_of_a_delivery_that_is_missing(self, missing):
        record = next(each for each in self.RECORDS.values() if each["delivery"])
        delivery = {name: value for name, value in record["delivery"].items() if name != missing}
        with pytest.raises(RecordError, match="a field is missing or wrong"):
            load_record(json.dumps({**record, "delivery": delivery}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": 1e300},
        {"finished_at": -1e300},
        {"wishes": {"quality": 99}},
        {"wishes": {"format": "exe"}},
        {"status": "completed"},
        {"delivery": {"mesh": {}}},
        {"delivery": {"mesh": {"vertices": 1, "faces": 1, "volume_mm3": 1.0, "extents_mm": [1.0]}}},
        {"mask": "\ud800"},
        {"version": True},
    ],
    ids=repr,
)
def test_values_that_no_answer_can_be_made_of(change):
    """They were read, and then every listing of the jobs failed."""
    good = whole()
    for name, value in change.items():
        good[name] = {**(good[name] or {}), **value} if isinstance(value, dict) else value
    with pytest.raises(RecordError):
        load_record(json.dumps(good).encode())
