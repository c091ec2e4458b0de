// Shows how points move from noise onto a drawing, by two denoisers side by side. See plane.py for the format of a film.
const $ = (selector) => element.querySelector(selector);
const plane = $(".plane"), curve = $(".curve"), scrub = $(".scrub"), play = $(".play"), numbers = $(".numbers");
const stages = Object.fromEntries([...element.querySelectorAll(".stage")].map((stage) => [stage.dataset.side, stage]));
const SECONDS = 4, PATHS = 160;  // of a whole film; lines drawn of so many points
const THUMB = 8;                 // half the width of the range's thumb, where its first and last step lie
let film = null;                 // the film being shown, with its numbers decoded
let training = null;             // the report of a training that is under way
let at = 0, playing = false, before = 0;

function data() {
  try { return typeof props.value === "string" ? JSON.parse(props.value || "null") : props.value; } catch { return null; }
}

function decode(text, unit) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (value) => value / unit);
}

function take() {
  const next = data();
  if (!next) return;
  if ("training" in next) {
    if (!next.training) training = null;
    else if (film && film.drawing === next.drawing) training = { ...next.training, x: decode(next.training.x, next.unit) };
    draw();
    return;
  }
  const whole = { ...next, points: decode(next.points, next.unit), sides: {} };
  for (const [name, side] of Object.entries(next.sides)) {
    if (side) whole.sides[name] = { ...side, x: decode(side.x, next.unit), field: decode(side.field, next.unit),
                                    guidance: side.guidance && decode(side.guidance, next.unit) };
  }
  const other = !film || film.drawing !== whole.drawing, trained = training && training.step === training.total;
  const anew = other || trained || !film.sides.learned && whole.sides.learned, share = film ? at / last() : 1;
  if (anew) training = null;  // a film that comes during a training leaves its report in view
  film = whole;
  scrub.max = last();
  if (anew && !matchMedia("(prefers-reduced-motion: reduce)").matches) { at = 0; start(); }
  else at = anew ? last() : share * last();
  if (!playing) at = Math.round(at);
  plane.dataset.run = film.run;
  plane.dataset.sides = Object.keys(film.sides).join(" ");
  $(".guided").style.display = film.names.length > 1 ? "" : "none";
  draw();
}

function last() { return film.log_snrs.length; }  // after the last step, the sample itself

function colour(name) { return getComputedStyle(plane).getPropertyValue(name).trim(); }

// Prepares a canvas for drawing in CSS pixels; null while it is not visible.
function pen(canvas) {
  const box = canvas.getBoundingClientRect(), sharp = window.devicePixelRatio || 1;
  if (!box.width) return null;
  const width = Math.round(box.width * sharp), height = Math.round(box.height * sharp);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d");
  context.setTransform(sharp, 0, 0, sharp, 0, 0);
  context.clearRect(0, 0, box.width, box.height);
  return { context, width: box.width, height: box.height };
}

function draw() {
  if (!film) return;
  for (const [name, stage] of Object.entries(stages)) drawStage(name, stage);
  drawCurve();
  const step = Math.min(Math.floor(at + 1e-6), last()), done = step === last();
  scrub.value = Math.round(at);
  const words = done ? { step: "the sample" }
    : { step: `${film.steps[step] + 1} of ${film.total}`, "log-SNR": film.log_snrs[step].toFixed(1) };
  scrub.setAttribute("aria-valuetext", "step " + words.step);
  numbers.replaceChildren(...Object.entries({ ...words, computing: film.seconds.toFixed(2) + " s" }).map(([name, value]) => {
    const row = document.createElement("div"), term = document.createElement("dt"), meaning = document.createElement("dd");
    term.textContent = name; meaning.textContent = value;
    row.append(term, meaning);
    return row;
  }));
  plane.dataset.at = step; plane.dataset.last = last();
}

function drawStage(name, stage) {
  const side = film.sides[name], ready = pen(stage.querySelector("canvas"));
  const report = name === "learned" ? training : null, progress = stage.querySelector("progress");
  const verdict = report ? `training: step ${report.step} of ${report.total}, loss ${report.loss.toFixed(3)}`
    : side ? side.verdict : "Not trained on this drawing yet: press <b>Train the network</b>. It takes a few seconds.";
  const words = stage.querySelector(".verdict");
  if (words.dataset.said !== verdict) { words.innerHTML = verdict; words.dataset.said = verdict; }
  if (progress) { progress.hidden = !report; if (report) progress.value = report.step / report.total; }
  if (name === "learned") plane.dataset.training = report ? report.step : "";
  if (!ready) return;
  const { context, width } = ready, half = film.half, small = Math.max(0.9, width / 250);
  const to = (value, sign) => (sign * value / half + 1) / 2 * width;
  const spot = (from, k) => [to(from[k], 1), to(from[k + 1], -1)];
  if (side && !report) drawArrows(context, side, spot, width);
  drawPoints(context, film.points, 0, film.points.length / 2, Math.max(1.8, width / 120), (k) => "--dot", spot, true);
  if (report) drawPoints(context, report.x, 0, report.x.length / 2, small, sampleColour, spot);
  else if (side) {
    const now = between(side.x);
    if ($("[data-layer=paths]").checked) drawPaths(context, side.x, now, spot);
    drawPoints(context, now, 0, film.samples, small, sampleColour, spot);
  }
}

function sampleColour(k) { return "--class-" + film.names[k % film.names.length]; }

// The places of all points at a moment between two steps.
function between(x) {
  const count = 2 * film.samples, step = Math.min(Math.floor(at), last()), share = at - step;
  const here = x.subarray(step * count, (step + 1) * count);
  if (!share) return here;
  const there = x.subarray((step + 1) * count, (step + 2) * count);
  return here.map((value, k) => value + share * (there[k] - value));
}

function drawPoints(context, from, first, count, radius, colourOf, spot, hollow = false) {
  for (let kind = 0; kind < (hollow ? 1 : film.names.length); kind++) {
    context.beginPath();
    for (let k = first + kind; k < count; k += hollow ? 1 : film.names.length) {
      const [x, y] = spot(from, 2 * k);
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
    }
    context.globalAlpha = hollow ? 0.65 : 0.8;
    if (hollow) { context.strokeStyle = colour(colourOf(kind)); context.lineWidth = 1; context.stroke(); }
    else { context.fillStyle = colour(colourOf(kind)); context.fill(); }
  }
  context.globalAlpha = 1;
}

function drawPaths(context, x, now, spot) {
  const step = Math.floor(at), lines = Math.min(PATHS, film.samples);
  for (let kind = 0; kind < film.names.length; kind++) {
    context.beginPath();
    for (let k = kind; k < lines; k += film.names.length) {
      context.moveTo(...spot(x, 2 * k));
      for (let row = 1; row <= step; row++) context.lineTo(...spot(x, 2 * (row * film.samples + k)));
      context.lineTo(...spot(now, 2 * k));
    }
    context.strokeStyle = colour(sampleColour(kind)); context.lineWidth = 0.8; context.globalAlpha = 0.28;
    context.stroke();
  }
  context.globalAlpha = 1;
}

// The clean estimate minus x, or the direction of guidance, on a grid and for every class. The length grows with its root.
function drawArrows(context, side, spot, width) {
  const kind = element.querySelector("[name=arrows]:checked").value, arrows = side[kind];
  if (!arrows) return;
  const places = film.places, step = Math.min(Math.floor(at), last() - 1), longest = width / film.grid * 0.95;
  for (let label = 0; label < film.names.length; label++) {
    context.beginPath();
    for (let g = 0; g < places.length; g++) {
      const k = 2 * ((step * film.names.length + label) * places.length + g);
      const dx = arrows[k], dy = -arrows[k + 1], size = Math.hypot(dx, dy);
      if (size < 0.004) continue;
      const length = longest * Math.min(1, Math.sqrt(size / 3)), ux = dx / size, uy = dy / size;
      const [x, y] = spot(places[g], 0), endX = x + ux * length, endY = y + uy * length, head = Math.min(4, length / 2);
      context.moveTo(x, y); context.lineTo(endX, endY);
      context.lineTo(endX - head * (ux + 0.6 * uy), endY - head * (uy - 0.6 * ux));
      context.moveTo(endX, endY);
      context.lineTo(endX - head * (ux - 0.6 * uy), endY - head * (uy + 0.6 * ux));
    }
    context.strokeStyle = colour(film.names.length > 1 ? sampleColour(label) : "--dot");
    context.lineWidth = Math.min(1, width / 350); context.globalAlpha = film.names.length > 1 ? 0.5 : 0.32;
    context.stroke();
  }
  context.globalAlpha = 1;
}

// The log-SNR of every step above the range, on a fixed scale, so that another schedule is another shape.
function drawCurve() {
  const ready = pen(curve);
  if (!ready) return;
  const { context, width, height } = ready, TOP = 12;
  const x = (k) => THUMB + (width - 2 * THUMB) * k / last();
  const y = (value) => height / 2 - Math.max(-TOP, Math.min(TOP, value)) / TOP * (height / 2 - 5);
  context.strokeStyle = colour("--border-color-primary"); context.lineWidth = 1;
  context.beginPath(); context.moveTo(THUMB, y(0)); context.lineTo(width - THUMB, y(0)); context.stroke();
  context.strokeStyle = colour("--color-accent");
  context.beginPath(); context.moveTo(x(at), 0); context.lineTo(x(at), height); context.stroke();
  context.fillStyle = colour("--body-text-color-subdued"); context.font = "11px system-ui, sans-serif";
  context.fillText("log-SNR of each step", THUMB, 11); context.fillText("0", THUMB, y(0) - 3);
  context.fillStyle = colour("--body-text-color");
  for (let k = 0; k < last(); k++) {
    context.beginPath(); context.arc(x(k), y(film.log_snrs[k]), 2, 0, 2 * Math.PI); context.fill();
  }
}

function start() {
  if (!film) return;
  if (at >= last()) at = 0;
  if (!playing) { playing = true; before = performance.now(); requestAnimationFrame(tick); }
  symbol();
}

function tick(now) {
  if (!playing) return;
  at = Math.min(last(), at + Math.max(0, now - before) / 1000 * last() / SECONDS);
  before = now;
  if (at >= last()) playing = false;
  draw(); symbol();
  if (playing) requestAnimationFrame(tick);
}

function go(to) {
  if (!film) return;
  playing = false;
  at = Math.min(last(), Math.max(0, Math.round(to)));
  draw(); symbol();
}

function symbol() {
  play.textContent = playing ? "❚❚" : "▶";
  play.setAttribute("aria-label", playing ? "Pause" : "Play");
}

function toggle() { if (playing) go(at); else start(); }

play.addEventListener("click", toggle);
$(".back").addEventListener("click", () => go(Math.ceil(at) - 1));
$(".forth").addEventListener("click", () => go(Math.floor(at) + 1));
scrub.addEventListener("input", () => go(Number(scrub.value)));
element.querySelectorAll(".layers input").forEach((input) => input.addEventListener("change", draw));
function follow(event) {
  if (!film || !event.buttons) return;
  const box = curve.getBoundingClientRect();
  go((event.clientX - box.left - THUMB) / (box.width - 2 * THUMB) * last());
}
curve.addEventListener("pointerdown", (event) => { curve.setPointerCapture(event.pointerId); follow(event); });
curve.addEventListener("pointermove", follow);
plane.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT") return;
  const keys = { ArrowLeft: () => go(Math.ceil(at) - 1), ArrowRight: () => go(Math.floor(at) + 1), Home: () => go(0),
                 End: () => go(Infinity) };
  if (event.target === plane) keys[" "] = toggle;
  if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
});
new ResizeObserver(() => draw()).observe($(".stages"));  // also when the tab opens
symbol();
watch("value", take);
take();
