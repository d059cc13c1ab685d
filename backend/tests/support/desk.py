"""A server in the test's own process, and jobs in every state that a client may meet."""

from contextlib import contextmanager

from in_process import Stage, house, puppet
from live_server import draw, encode

from errors import NotFoundError
from work.jobs import EVERYONE
from work.records import JobStatus
from work.request import Wishes

PICTURE = encode(draw(size=(80, 90)))
JOBS = ("uploaded", "completed", "completed, shape lost", "completed, evicted", "completed, upload lost", "cancelled")


@contextmanager
def open_desk(folder, **environment):
    """A desk whose model makes a box at once."""
    model = puppet(Stage(), thread_safe=True)
    with house(folder, model, **{"MAX_UPLOAD_MB": "0.5", **environment}) as client:
        yield Desk(client.server)


class Desk:
    """A server and its jobs."""

    def __init__(self, server):
        self.server, self.app, self.service = server, server.app, server.service
        self.client = server.app.test_client()
        self._jobs = {}

    def job(self, kind):
        """A job of that kind; made anew when somebody has deleted it or changed its state."""
        job = self._jobs.get(kind)
        if job is None or not self._kept(job) or not kind.startswith(job.status.value):
            job = self._jobs[kind] = self._make(kind)
        return job

    def _kept(self, job):
        try:
            return self.service.jobs.get(job.id) is job
        except NotFoundError:
            return False

    def _make(self, kind):
        job = self.service.receive_all({"front": (PICTURE, "a.png"), "back": (PICTURE, "b.png")}, EVERYONE)
        if kind != "uploaded":
            self.service.make(job, Wishes())
            self.service.jobs.wait(job, 60, final=True)
            assert job.status is JobStatus.COMPLETED, job.failure
        if kind.endswith(("lost", "evicted")):
            self._lose(job, file=not kind.endswith("shape lost"))
        if kind.endswith("upload lost"):
            for picture in job.pictures.values():
                self.service.files.upload(picture.name).unlink()
        if kind == "completed":
            self.service.set_thumbnail(job, PICTURE)
        if kind == "cancelled":
            with self.service._changed:
                self.service.jobs.settle(job, JobStatus.CANCELLED)
            job.finished_at -= 3600
        return job

    def _lose(self, job, file):
        """As if the disk had been full."""
        self.service.results.clear()
        named = [job.delivery.shape_sha256, *([job.delivery.sha256] if file else [])]
        self.service.files.blobs.drop(named)
