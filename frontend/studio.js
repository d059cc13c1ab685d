// The page: wires its parts together.

import { CachePanel } from "./cache/panel.js";
import { setUpIntake, showFormats } from "./input/intake.js";
import { Mask } from "./input/mask.js";
import { Models } from "./input/models.js";
import { Options } from "./input/options.js";
import { Pictures } from "./input/pictures.js";
import { expectedTime, showQuality } from "./input/quality.js";
import { Rows } from "./input/rows.js";
import { path } from "./result/files.js";
import { History } from "./result/history.js";
import { Result } from "./result/result.js";
import { blob, get, patiently } from "./shared/api.js";
import { Watch } from "./shared/connection.js";
import { byId } from "./shared/dom.js";
import { explain, isEvicted } from "./shared/errors.js";
import { keepingFocus } from "./shared/focus.js";
import { setUpKey } from "./shared/key.js";
import { say, tell } from "./shared/notices.js";
import { setUpTheme } from "./shared/theme.js";
import { sizes } from "./shared/words.js";
import { View } from "./viewer/bar.js";
import { wishOf } from "./work/attempt.js";
import { Jobs } from "./work/jobs.js";
import { MakeButton } from "./work/make_button.js";
import { Progress } from "./work/progress.js";

setUpKey();
setUpTheme(byId("theme"), byId("theme-text"));

const pictures = new Pictures();
const models = new Models(() => followModel());
const jobs = new Jobs(pictures, () => models.usual);
const button = new MakeButton(pictures);
const options = new Options(() => {
  showQuality(models.chosen);
  button.show();
});
const view = new View();
const progress = new Progress(({ attempt, job }) => (
  expectedTime(models.named(attempt.wish.model ?? models.usual), job.quality)?.seconds ?? null
));
const result = new Result();
const cache = new CachePanel();
const mask = new Mask(pictures, () => options.values().remove_background);
new Rows(pictures, jobs);
const history = new History(openPast, makeAgain, forgetPast);

async function refreshModels() {
  try {
    await models.refresh();
  } catch (error) {
    models.fail(explain(error));
    throw error;
  }
  const { limits, info: { limits: { max_upload_mb: most, image_formats: read } = {} } } = models;
  pictures.mostMb = most ?? Infinity;
  if (read) showFormats(read);
  result.offer(limits.choices("format"), limits.standard("format"));
  followModel();
}

/** Another model may read other options, and these within other bounds. */
function followModel() {
  options.follow(models.limits, models.reads);
  showQuality(models.chosen);
}

/** What the viewer shows: the file's address, so that the same is not loaded twice. */
let shown = null;

setUpIntake((files) => {
  const solid = files.find((file) => /\.glb$/i.test(file.name));
  if (solid) lookAt(solid);
  const flat = files.filter((file) => file !== solid);
  if (flat.length) pictures.add(flat);
});

/** A GLB of the user's own: there is nothing to make of it, but it can be looked at. */
function lookAt(file) {
  pictures.select(null);
  shown = file;
  view.show(file, file.name);
}

byId("options").addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = options.wish();
  if (!asked) return;
  const wish = { ...asked, ...models.wish() };
  showView();
  for (const picture of button.targets) await jobs.start(picture, wish);  // one after the other keeps their order
});

/** On a phone it is further down. */
function showView() {
  document.querySelector(".view").scrollIntoView({ block: "nearest" });
}

byId("cancel").addEventListener("click", () => jobs.cancel(pictures.current).catch((error) => tell(explain(error))));

function showPicture() {
  const { current, list } = pictures;
  byId("studio").dataset.hasPicture = Boolean(current);
  byId("drop").hidden = list.length > 0;
  byId("more").hidden = !list.length;
  mask.show(current);
  progress.show(current);
  result.show(current);
  options.setProportions(current?.phase === "done" ? current.result.mesh.extents_mm : null);
  button.show();
}

async function showModel() {
  const job = pictures.current?.result;
  const address = job ? `${path(job, "glb")}#${job.finished_at}` : null;
  history.mark(pictures.current);
  if (address === shown || (!job && shown instanceof File)) return;
  shown = address;
  if (!job) return view.clear();
  try {
    const file = await patiently(() => blob(path(job, "glb")));
    if (shown === address) await view.show(file, job.original_filename.replace(/\.[^.]*$/, ""));
    return file;
  } catch (error) {
    if (shown === address) view.say(explain(error));
    if (error.code === "result_evicted") await hearOfEviction(pictures.current);
  }
}

async function hearOfEviction(picture) {
  if (picture?.phase !== "done") return;
  pictures.hear(picture, await patiently(() => get(`/api/job-status/${picture.jobId}`)));
  await history.load();
}

pictures.addEventListener("change", ({ detail }) => {
  keepingFocus(!detail || detail === pictures.current ? showPicture : () => button.show());
});
pictures.addEventListener("select", () => showModel());
pictures.addEventListener("file", () => showPicture());

jobs.addEventListener("end", async ({ detail: picture }) => {
  const current = picture === pictures.current;
  if (picture.phase === "done") {
    const { mesh, cached } = picture.result, closed = mesh.watertight ? "watertight" : "not watertight";
    say(`${picture.name} is ready${cached ? ", from the cache" : ""}: ${sizes(mesh.extents_mm)}, ${closed}.`);
  } else if (picture.phase === "failed") say(picture.error);
  else say(`${picture.name} was cancelled.`);
  if (current) options.showRefusal(picture.attempt.refusal);
  if (picture.phase !== "done") return;
  const file = current ? await showModel() : null;
  await Promise.allSettled([history.added(picture.result, file), refreshModels(), cache.tick()]);
  history.mark(pictures.current);
});

function openPast(job) {
  const known = pictures.list.find((each) => each.jobId === job.job_id);
  const picture = known ?? pictures.fromJob(job);
  if (!known) pictures.list.push(picture);
  else if (isEvicted(job) && known.phase === "done") pictures.hear(known, job);
  askAsFor(job);
  pictures.select(picture);
  return picture;
}

/** Just as it was asked for, which may be more than the form can say. */
async function makeAgain(job) {
  const picture = openPast(job);
  showView();
  if (!picture.busy) await jobs.start(picture, wishOf(job));
}

/** Ask for what this job was made with. */
function askAsFor(job) {
  if (job.model) models.want(job.model === models.usual ? null : job.model);
  options.restore(job);
}

function forgetPast(job) {
  const picture = pictures.list.find((each) => (each.result ?? each.job)?.job_id === job.job_id);
  if (picture) pictures.remove(picture);
}

async function begin() {
  await new Watch(() => refreshModels().catch((error) => tell(explain(error)))).heard;
  const found = await pictures.restore();
  const { current } = pictures;
  const asked = current?.result ?? (current?.phase === "failed" ? current.job : null);
  if (asked) askAsFor(asked);
  if (!found) tell("The model of this address is no longer on the server.");
  jobs.follow();
  await history.load();
  history.mark(current);
}

addEventListener("hashchange", () => location.reload());  // another job's address was entered
showPicture();
showQuality(null);
begin().catch((error) => tell(explain(error)));
