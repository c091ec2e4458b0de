// Plays a film: frames arrive in chunks, each with one sprite (frames stacked downwards) per panel.
// Everything after their arrival happens here, without the server. See player.py for the format of a film.
const $ = (selector) => element.querySelector(selector);
const player = $(".player"), panels = $(".panels"), track = $(".track"), strip = $(".strip"), curve = $(".curve");
const scrub = $(".scrub"), play = $(".play"), numbers = $(".numbers");
const MAIN = ["x", "x0", "only"];  // the panels that are shown large
let film = null;      // the film being shown
let asked = "";       // the newest draft that was followed by a request for the whole run
let before = [];      // the curve of the film before it, for comparison
let frames = [];      // what is known of each frame: {step, log_snr, numbers, guidance, chunk, row}
let sprites = [];     // per chunk: {panel key: ImageBitmap}
let at = 0, playing = false, clock = null, shown = "";
let alone = -1;       // the image of a grid that is shown alone, or -1 for all

function data() {
  const value = Array.isArray(props.value) ? props.value[0] : props.value;
  try { return typeof value === "string" ? JSON.parse(value || "null") : value; } catch { return null; }
}

// An image element reads a data URI several times faster than createImageBitmap reads its bytes. A bitmap is decoded once,
// whereas an image may be decoded anew whenever it is drawn.
async function decode(uri) {
  const picture = new Image();
  await new Promise((resolve, reject) => { picture.onload = resolve; picture.onerror = () => reject(new Error("a sprite cannot be read")); picture.src = uri; });
  return createImageBitmap(picture);
}

let arriving = Promise.resolve();
function arrived() { arriving = arriving.then(take).catch((error) => console.error("player:", error)); }

async function take() {
  const next = data();
  if (next?.draft && next.run !== asked) { asked = next.run; trigger("draft"); }  // the whole run is still to be drawn
  if (!next?.chunks?.length) return;
  if (!film || next.run !== film.run) {
    const old = film, frame = (film) => film && JSON.stringify([film.panels, film.width, film.height]);
    before = old?.curve || [];
    film = next; frames = []; sprites = [];
    const alike = frame(old) === frame(film);
    if (!alike) layOut();
    if (JSON.stringify(old?.names) !== JSON.stringify(film.names)) offerImages();
    if (clock !== null) { clearTimeout(clock); clock = null; }
    at = 0; shown = ""; playing = !film.still;
    if (alike) drawCurve(); else fit();
    $(".source").textContent = film.source || "";
    scrub.max = Math.max(0, film.count - 1);
  }
  film = next;
  for (let k = sprites.length; k < film.chunks.length; k++) {
    const chunk = film.chunks[k], decoded = {};
    await Promise.all(Object.entries(chunk.sprites).map(async ([key, uri]) => { decoded[key] = await decode(uri); }));
    sprites.push(decoded);
    chunk.frames.forEach((frame, row) => frames.push({ ...frame, chunk: k, row }));
    if (film.still || matchMedia("(prefers-reduced-motion: reduce)").matches) at = frames.length - 1;
    const first = player.dataset.arrived === undefined;
    player.dataset.arrived = frames.length;
    if (first) fit();  // the player was hidden until now
    drawStrip();
    draw();
    tick();
  }
  offerToSave();
  player.dataset.run = film.run;
  player.dataset.done = film.done;
  player.dataset.settings = JSON.stringify(film.settings || {});
  if (film.done && film.link && element.closest(".viewer")) history.replaceState(null, "", address());
  symbol();
  draw();
}

// Some films have no settings, or no link that would bring them back.
function offerToSave() {
  for (const [kind, known] of [["json", film.settings], ["link", film.link]]) $(`[data-kind=${kind}]`).style.display = known ? "" : "none";
}

// The address of this run: its settings, and all other parts of the query (such as a theme).
function address() {
  const query = new URLSearchParams(location.search);
  for (const name of Object.keys(film.settings)) query.delete(name);
  new URLSearchParams(film.link).forEach((value, name) => query.set(name, value));
  return location.pathname + "?" + query;
}

function make(tag, kind, ...content) {
  const node = document.createElement(tag);
  node.className = kind;
  node.append(...content);
  return node;
}

function layOut() {
  panels.replaceChildren(...film.panels.map((panel) => {
    const canvas = document.createElement("canvas"), name = make("b", "", panel.name);
    const caption = make("figcaption", "", name, make("span", "meaning", " " + panel.meaning), make("span", "when"));
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", panel.name + ": " + panel.meaning);
    canvas.dataset.panel = panel.key;
    canvas.addEventListener("click", (event) => isolate(alone < 0 ? pointed(event, canvas) : -1));
    return make("figure", MAIN.includes(panel.key) ? "panel main" : "panel minor", canvas, caption);
  }));
}

// The part of a frame that is shown: all of it, or one image of its grid.
function part() { return alone < 0 ? [0, 0, film.width, film.height] : tile(alone); }

// The place of an image in the grid of a frame. Images are film.gap pixels apart.
function tile(image) {
  const gap = film.gap, width = (film.width - gap) / film.columns, rows = Math.ceil(film.names.length / film.columns);
  const height = (film.height - gap) / rows;
  return [gap + image % film.columns * width, gap + Math.floor(image / film.columns) * height, width - gap, height - gap];
}

function pointed(event, canvas) {
  const images = film.names || [], box = canvas.getBoundingClientRect(), rows = Math.ceil(images.length / film.columns);
  const column = Math.floor((event.clientX - box.left) / box.width * film.columns);
  const image = Math.floor((event.clientY - box.top) / box.height * rows) * film.columns + column;
  return images.length > 1 && image < images.length ? image : -1;
}

function offerImages() {
  const images = film.names || [], options = ["all " + images.length, ...images];
  alone = -1;
  player.classList.toggle("grid", images.length > 1);
  $(".alone").replaceChildren(...options.map((text, k) => new Option(text, k - 1)));
  isolate(-1);
}

function isolate(image) {
  alone = image;
  $(".alone").value = image;
  player.classList.toggle("single", image >= 0);
  player.dataset.alone = image;
  shown = "";
  fit();
}

// Chooses the arrangement with the largest pixels: both main panels beside each other or one below the other, all others
// smaller beside them. Each pixel of an image is a whole number of pixels of the screen, so that its edges are sharp.
function arrange(mains, minors, width, height, [w, h], [gap, caption]) {
  const ratio = devicePixelRatio || 1, choices = [];
  for (const stacked of mains > 1 ? [false, true] : [false]) {
    const across = stacked ? 1 : mains, down = stacked ? mains : 1;
    for (let k = 40 * Math.ceil(ratio); k; k--) {
      const small = Math.max(1, Math.floor(stacked || h > w ? k / 2 : (k - caption * ratio / h) / 2));
      const wide = across * w * k / ratio + (across - 1) * gap + (minors ? (1 + stacked) * gap + w * small / ratio : 0);  // stacked, the second column is empty
      const high = down * (h * k / ratio + caption);
      if (wide <= width && high <= height) { choices.push({ stacked, big: k / ratio, small: small / ratio }); break; }
    }
  }
  const best = choices.sort((a, b) => b.big - a.big)[0];
  // One below the other, the main panels leave their right side to the small ones, which may fill it.
  if (best?.stacked && minors) {
    const free = Math.floor((width - w * best.big - 2 * gap) * ratio / w), most = Math.floor(best.big * ratio * 0.8);
    best.small = Math.max(best.small, Math.min(free, most) / ratio);
  }
  return best;
}

function fit() {
  const width = panels.clientWidth, narrow = width < 544, mains = panels.querySelectorAll(".main").length;
  if (!film || !width || !mains) return;
  const [, , w, h] = part(), minors = film.panels.length - mains, space = narrow ? [8, 17] : [18, 28];
  const top = player.getBoundingClientRect().top + scrollY, below = player.offsetHeight - panels.offsetHeight;
  const height = narrow ? innerHeight * 0.3 : Math.max(innerHeight * 0.45, innerHeight - top - below - 16);
  const least = width / (w * (minors ? 1.6 : 1));  // for a grid that is too wide for whole pixels
  const sizes = arrange(mains, minors, width, height, [w, h], space) || arrange(mains, minors, width, Infinity, [w, h], space)
    || { stacked: true, big: least, small: least / 2 };
  let main = 0, minor = 0;
  for (const panel of panels.children) {
    const large = panel.classList.contains("main"), canvas = panel.querySelector("canvas"), scale = large ? sizes.big : sizes.small;
    const place = large ? main++ : minor++;
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; shown = ""; }
    canvas.style.width = w * scale + "px"; canvas.style.height = h * scale + "px";
    panel.style.gridArea = !large ? `${place + 1} / 3` : sizes.stacked ? `${place + 1} / 1` : `1 / ${place + 1} / span ${Math.max(1, minors)}`;
  }
  panels.style.gridTemplateRows = sizes.stacked ? "" : `repeat(${Math.max(1, minors - 1)}, auto) 1fr`;
  drawStrip(); drawCurve(); draw();
}

// The step with the strongest guidance is shown when the film rests at its end, where there is none to see.
function strongest() {
  let best = 0;
  frames.forEach((frame, k) => { if ((frame.guidance || 0) > (frames[best].guidance || 0)) best = k; });
  return best;
}

function paint(context, key, frame, width, height) {
  const sprite = sprites[frame.chunk][key], [left, top, w, h] = part(), [across, down] = [width / w, height / h];
  const grid = alone < 0 && (film.names || []).length > 1, parts = grid ? film.names.map((_, k) => tile(k)) : [part()];
  if (grid) context.clearRect(0, 0, width, height);  // the page is seen between the images
  if (sprite) for (const [x, y, wide, high] of parts) {
    context.drawImage(sprite, x, frame.row * film.height + y, wide, high,
                      (x - left) * across, (y - top) * down, wide * across, high * down);
  }
  else { context.fillStyle = "#808080"; context.fillRect(0, 0, width, height); }  // nothing here: grey
}

// Whether all frames are here: the last answer says that the film is done before its pictures are decoded.
function complete() { return film.done && sprites.length === film.chunks.length; }

function draw() {
  if (!frames.length) return;
  at = Math.min(Math.max(at, 0), frames.length - 1);
  const resting = !playing && complete() && at === frames.length - 1;
  if (shown === `${film.run}:${at}:${resting}`) return;
  shown = `${film.run}:${at}:${resting}`;
  for (const panel of panels.children) {
    const canvas = panel.querySelector("canvas"), peak = resting && canvas.dataset.panel === "guidance";
    const frame = frames[peak ? strongest() : at];
    paint(canvas.getContext("2d"), canvas.dataset.panel, frame, canvas.width, canvas.height);
    panel.querySelector(".when").textContent = peak ? `at step ${frame.step + 1}, where it is strongest` : "";
  }
  const frame = frames[at], words = Object.entries(frame.numbers);
  scrub.value = at;
  scrub.setAttribute("aria-valuetext", words.length ? words[0].join(" ") : "frame " + (at + 1));
  if (numbers.children.length !== words.length) {
    numbers.replaceChildren(...words.map(() => {
      const row = document.createElement("div");
      row.append(document.createElement("dt"), document.createElement("dd"));
      return row;
    }));
  }
  words.forEach(([name, value], k) => {
    const [term, meaning] = numbers.children[k].children;
    if (term.textContent !== name) term.textContent = name;
    meaning.textContent = value;
  });
  $(".needle").style.left = 100 * across(frame.step) + "%";
  const here = $(".here");
  if (here && frame.log_snr !== undefined) {
    here.setAttribute("cx", across(frame.step) * wide); here.setAttribute("cy", rise(frame.log_snr));
  }
  player.dataset.drawn = film.run + ":" + at;
  player.dataset.at = at;
}

// Strip and curve share one axis: every step taken has the same share of the width.
function steps() { return film.curve?.length ? film.curve[film.curve.length - 1][0] + 1 : film.count || 1; }
function across(step) { return (step + 0.5) / steps(); }
function nearest(step) {
  let best = 0;
  frames.forEach((frame, k) => { if (Math.abs(frame.step - step) < Math.abs(frames[best].step - step)) best = k; });
  return best;
}

function drawStrip() {
  const width = track.clientWidth, ratio = devicePixelRatio || 1;
  if (!film?.width || !width) return;
  const [, , w, h] = part(), key = film.panels[film.panels.length - 1].key === "only" ? "only" : "x0";
  const scale = Math.max(1, Math.round((width < 544 ? 48 : 84) * ratio / h)) / ratio;
  const size = Math.min(scale, width / w), count = Math.max(1, Math.min(film.count, Math.floor(width / (w * size + 4))));
  const context = strip.getContext("2d"), tile = [Math.round(w * size * ratio), Math.round(h * size * ratio)];
  strip.width = Math.round(width * ratio); strip.height = tile[1];
  context.imageSmoothingEnabled = false;
  for (let k = 0; k < count; k++) {
    const step = (k + 0.5) / count * steps() - 0.5, frame = frames[nearest(step)];
    const left = Math.round((k + 0.5) / count * strip.width - tile[0] / 2);
    context.setTransform(1, 0, 0, 1, left, 0);
    if (frame && Math.abs(frame.step - step) <= steps() / film.count) paint(context, key, frame, ...tile);
    else { context.fillStyle = "#80808030"; context.fillRect(0, 0, ...tile); }  // not yet computed
  }
  strip.style.height = tile[1] / ratio + "px";
}

// The axis of log-SNR is sigmoid(log-SNR / 3): some schedules begin at -20, and these steps must not flatten the others.
let wide = 0, high = 84;  // of the chart, in pixels
function rise(log_snr) { return 4 + (high - 8) * (1 - 1 / (1 + Math.exp(-log_snr / 3))); }

function drawCurve() {
  const points = film?.curve || [], width = track.clientWidth, known = points.length > 1;
  curve.style.display = known ? "" : "none";
  if (!known || !width) return;
  wide = width; high = width < 544 ? 48 : 84;
  const line = (points, total) => points.map(([k, value]) => `${(k + 0.5) / total * width},${rise(value)}`).join(" ");
  const rules = [-5, 0, 5].map((value) => `<line class="rule" x1="0" x2="${width}" y1="${rise(value)}" y2="${rise(value)}"/>`
    + `<text x="2" y="${rise(value) - 3}">${{ "-5": "−5", 0: "0", 5: "log-SNR +5" }[value]}</text>`).join("");
  const old = before.length > 1 ? `<polyline class="before" points="${line(before, before[before.length - 1][0] + 1)}"/>` : "";
  const dots = points.length > 100 ? "" : points.map(([k, value]) =>
    `<circle class="dot" r="2.4" cx="${across(k) * width}" cy="${rise(value)}"/>`).join("");
  curve.setAttribute("viewBox", `0 0 ${width} ${high}`); curve.style.height = high + "px";
  curve.innerHTML = `${rules}${old}<polyline points="${line(points, steps())}"/>${dots}`
    + '<circle class="here" r="5" cx="-9" cy="-9"/>';
  shown = "";
}

// A film of n frames lasts about three seconds at speed 1; while frames arrive, the player waits for the newest.
function tick() {
  if (!playing || clock !== null || !film) return;
  const pause = Math.min(170, Math.max(45, 3000 / Math.max(1, film.count))) / Number($(".speed").value);
  clock = setTimeout(() => {
    clock = null;
    if (!playing) return;
    if (at < frames.length - 1) { at += 1; draw(); tick(); }
    else if (complete()) {
      if ($(".loop").checked) { clock = setTimeout(() => { clock = null; at = 0; draw(); tick(); }, 700); }
      else { playing = false; symbol(); draw(); }
    }
  }, pause);
}

function symbol() {
  play.textContent = playing ? "❚❚" : "▶";
  play.setAttribute("aria-label", playing ? "Pause" : "Play");
}

function toggle() {
  playing = !playing;
  if (playing && film && at >= frames.length - 1) { at = 0; draw(); }  // also of a run that was stopped before its end
  if (!playing && clock !== null) { clearTimeout(clock); clock = null; }
  symbol(); draw(); tick();
}

function go(to) {
  playing = false;
  if (clock !== null) { clearTimeout(clock); clock = null; }
  at = to; draw(); symbol();
}

play.addEventListener("click", toggle);
$(".back").addEventListener("click", () => go(at - 1));
$(".forth").addEventListener("click", () => go(at + 1));
scrub.addEventListener("input", () => go(Number(scrub.value)));
$(".alone").addEventListener("change", () => isolate(Number($(".alone").value)));
$(".more").addEventListener("click", () => {
  const open = $(".bar").classList.toggle("open");
  $(".more").setAttribute("aria-expanded", open);
});

// A press anywhere in the strip or the curve goes to the step there; a drag follows the pointer.
function point(event) {
  if (!frames.length) return;
  const box = track.getBoundingClientRect();
  go(nearest((event.clientX - box.left) / box.width * steps() - 0.5));
}
track.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  track.setPointerCapture(event.pointerId);
  scrub.focus({ preventScroll: true });
  event.preventDefault();
  point(event);
});
track.addEventListener("pointermove", (event) => { if (track.hasPointerCapture(event.pointerId)) point(event); });
$(".loop").addEventListener("change", () => { if ($(".loop").checked && !playing) toggle(); });
player.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT") return;
  const keys = { ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1), Home: () => go(0), End: () => go(frames.length - 1) };
  if (event.target === player) {
    const images = player.classList.contains("grid") ? film.names.length : 0;
    Object.assign(keys, { " ": toggle, Escape: () => isolate(-1) });
    if (images) Object.assign(keys, { ArrowUp: () => isolate(Math.max(-1, alone - 1)), ArrowDown: () => isolate(Math.min(images - 1, alone + 1)) });
  }
  if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
});

// Saving: all frames side by side, all panels of a frame above each other.
function sheet() {
  const whole = document.createElement("canvas"), context = whole.getContext("2d");
  whole.width = frames.length * film.width; whole.height = film.panels.length * film.height;
  frames.forEach((frame, column) => film.panels.forEach((panel, row) => {
    const sprite = sprites[frame.chunk][panel.key];
    if (sprite) context.drawImage(sprite, 0, frame.row * film.height, film.width, film.height,
                                  column * film.width, row * film.height, film.width, film.height);
  }));
  return whole;
}

function save(uri, name) {
  const link = document.createElement("a");
  link.href = uri; link.download = name;
  document.body.append(link); link.click(); link.remove();
}

async function exported(kind) {
  if (!frames.length) return;
  const name = "diffusion-" + film.run;
  const say = (text) => { $(".source").textContent = text; };
  if (kind === "json") {
    save("data:application/json," + encodeURIComponent(JSON.stringify(film.settings, null, 2)), name + ".json");
  } else if (kind === "link") {
    const link = location.origin + address();
    try { await navigator.clipboard.writeText(link); say("Copied: " + link); } catch { say(link); }
  } else if (kind === "png") {
    save(sheet().toDataURL("image/png"), name + ".png");
  } else {
    say("Writing the animation …");
    try {
      const answer = await server.export({ strip: sheet().toDataURL("image/png"), frames: frames.length,
                                           panels: film.panels.length, kind });
      if (!answer) throw new Error("the server cannot be reached");
      if (answer.error) throw new Error(answer.error);
      save(answer.uri, name + "." + kind);
      say(film.source || "");
    } catch (error) { say("Not saved: " + (error.message || error)); }
  }
}

element.querySelectorAll("[data-kind]").forEach((button) => button.addEventListener("click", () => {
  $(".export").open = false;
  exported(button.dataset.kind);
}));

let fitted = 0;  // the width for which the panels were arranged: their arrangement changes only the height
new ResizeObserver(([entry]) => { if (entry.contentRect.width !== fitted) { fitted = entry.contentRect.width; fit(); } }).observe(player);
addEventListener("resize", fit);
symbol();
watch("value", arrived);
arrived();
