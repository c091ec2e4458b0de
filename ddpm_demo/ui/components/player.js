// Plays a film: frames arrive in chunks, each with one sprite (frames stacked downwards) per panel.
// Everything after their arrival happens here, without the server. See player.py for the format of a film.
const $ = (selector) => element.querySelector(selector);
const player = $(".player"), panels = $(".panels"), scrub = $(".scrub"), play = $(".play"), numbers = $(".numbers");
let film = null;      // the film being shown
let frames = [];      // what is known of each frame: {step, t, log_snr, seconds, nfe, chunk, row}
let sprites = [];     // per chunk: {panel key: ImageBitmap}
let at = 0, playing = false, clock = null, shown = -1;

function data() {
  const value = Array.isArray(props.value) ? props.value[0] : props.value;
  try { return typeof value === "string" ? JSON.parse(value || "null") : value; } catch { return null; }
}

async function decode(uri) {
  const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (c) => c.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

let arriving = Promise.resolve();
function arrived() { arriving = arriving.then(take).catch((error) => console.error("player:", error)); }

async function take() {
  const next = data();
  if (!next || !next.chunks) return;
  if (!film || next.run !== film.run) {
    const old = film;
    film = next; frames = []; sprites = [];
    if (!old || JSON.stringify(old.panels) !== JSON.stringify(film.panels) || old.width !== film.width
        || old.height !== film.height) layOut();
    if (clock !== null) { clearTimeout(clock); clock = null; }
    at = 0; shown = -1; playing = !film.still;
    drawCurve();
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
    player.dataset.arrived = frames.length;
    draw();
    tick();
  }
  player.dataset.run = film.run;
  player.dataset.done = film.done;
  player.dataset.settings = JSON.stringify(film.settings);
  if (film.done && film.link && element.closest(".viewer")) history.replaceState(null, "", address());
  symbol();
}

// The address of this run: its settings, and all other parts of the query (such as a theme).
function address() {
  const query = new URLSearchParams(location.search);
  new URLSearchParams(film.link).forEach((value, name) => query.set(name, value));
  return location.pathname + "?" + query;
}

function layOut() {
  panels.replaceChildren(...film.panels.map((panel) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption"), name = document.createElement("b");
    figure.className = "panel";
    canvas.width = film.width; canvas.height = film.height;
    canvas.style.maxWidth = film.width * Math.max(2, Math.floor(250 / film.height)) + "px";  // whole, large pixels
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", panel.name + ": " + panel.meaning);
    canvas.dataset.panel = panel.key;
    name.textContent = panel.name;
    caption.append(name, " " + panel.meaning);
    figure.append(canvas, caption);
    return figure;
  }));
  panels.classList.toggle("wide", film.width > 1.5 * film.height);
  panels.classList.toggle("one", film.panels.length < 2);
}

function draw() {
  if (!frames.length || at === shown && shown >= 0 && player.dataset.drawn === film.run + ":" + at) return;
  at = Math.min(Math.max(at, 0), frames.length - 1);
  const frame = frames[at];
  for (const canvas of panels.querySelectorAll("canvas")) {
    const sprite = sprites[frame.chunk][canvas.dataset.panel], context = canvas.getContext("2d");
    if (sprite) context.drawImage(sprite, 0, frame.row * film.height, film.width, film.height, 0, 0, film.width, film.height);
    else { context.fillStyle = "#808080"; context.fillRect(0, 0, film.width, film.height); }  // nothing here: grey
  }
  shown = at;
  scrub.value = at;
  const words = Object.entries(frame.numbers);
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
  const dot = $(".curve circle"), [x, y] = place(frame.step, frame.log_snr);
  dot.setAttribute("cx", x); dot.setAttribute("cy", y);
  player.dataset.drawn = film.run + ":" + at;
  player.dataset.at = at;
}

// The curve of log-SNR against step, noise at the lower left, image at the upper right.
function place(step, value) {
  const curve = film.curve || [];
  if (curve.length < 2 || value === undefined) return [-9, -9];
  const low = curve[0][1], high = curve[curve.length - 1][1], last = curve[curve.length - 1][0];
  return [4 + 112 * step / Math.max(1, last), 43 - 30 * (value - low) / Math.max(1e-9, high - low)];
}

function drawCurve() {
  const known = (film.curve || []).length > 1;
  $(".curve").style.display = known ? "" : "none";
  if (known) $(".curve polyline").setAttribute("points", film.curve.map((p) => place(...p).join(",")).join(" "));
}

// A film of n frames lasts about three seconds at speed 1; while frames arrive, the player waits for the newest.
function tick() {
  if (!playing || clock !== null || !film) return;
  const pause = Math.min(170, Math.max(45, 3000 / Math.max(1, film.count))) / Number($(".speed").value);
  clock = setTimeout(() => {
    clock = null;
    if (!playing) return;
    if (at < frames.length - 1) { at += 1; draw(); tick(); }
    else if (film.done) {
      if ($(".loop").checked) { clock = setTimeout(() => { clock = null; at = 0; draw(); tick(); }, 700); }
      else { playing = false; symbol(); }
    }
  }, pause);
}

function symbol() {
  play.textContent = playing ? "❚❚" : "▶";
  play.setAttribute("aria-label", playing ? "Pause" : "Play");
}

function toggle() {
  playing = !playing;
  if (playing && film?.done && at >= frames.length - 1) { at = 0; draw(); }
  if (!playing && clock !== null) { clearTimeout(clock); clock = null; }
  symbol(); tick();
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
$(".loop").addEventListener("change", () => { if ($(".loop").checked && !playing) toggle(); });
player.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT") return;
  const keys = { ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1), Home: () => go(0), End: () => go(frames.length - 1) };
  if (event.target === player) keys[" "] = toggle;
  if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
});

// Saving: all frames side by side, all panels of a frame above each other.
function strip() {
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
    save(strip().toDataURL("image/png"), name + ".png");
  } else {
    say("Writing the animation …");
    try {
      const answer = await server.export({ strip: strip().toDataURL("image/png"), frames: frames.length,
                                           panels: film.panels.length, kind });
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

symbol();
watch("value", arrived);
arrived();
