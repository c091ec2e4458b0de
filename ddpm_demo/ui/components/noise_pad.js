// The noise pad: each place of the square is a mixture of four noises, and its image is drawn while the handle moves.
// It asks for pictures by server.draw and server.compare; see noise_tab.py for an order and its answer.
const $ = (selector) => element.querySelector(selector);
const pad = $(".noisepad"), square = $(".square"), handle = $(".handle"), image = $(".image"), about = $(".about");
const weight = $(".weight input"), CORNERS = [[0, 0], [1, 0], [0, 1], [1, 1]], SIDE = 7, REST = 250;
let choices = null;              // the value: what can be chosen, see describe_pad in noise_tab.py
let place = [0.5, 0.5], seeds = [];
let wanted = 0, drawn = 0, busy = false, resting = null, pressed = false, stale = false, opening = null;

function data() {
  try { return typeof props.value === "string" ? JSON.parse(props.value || "null") : props.value; } catch { return null; }
}

function order(places) {
  const chosen = (group) => $(group + " [aria-pressed=true]").dataset.value;
  return { checkpoint: choices.checkpoint, class_label: chosen(".names"), weight: Number(weight.value),
           steps: Number(chosen(".calls")), seeds, places };
}

async function ask(task, places) {
  const answer = await server[task](order(places));
  if (!answer) throw new Error("the server cannot be reached");
  if (answer.error) throw new Error(answer.error);
  return answer;
}

function paint(canvas, uri) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => {
      canvas.width = picture.width; canvas.height = picture.height;
      canvas.getContext("2d").drawImage(picture, 0, 0);
      resolve();
    };
    picture.onerror = () => reject(new Error("the picture cannot be shown"));
    picture.src = uri;
  });
}

// Draw the newest place. While a picture is on its way, movements only change what is drawn next.
async function draw() {
  if (busy) return;
  busy = true;
  try {
    while (drawn !== wanted) {
      const now = wanted, began = performance.now(), by = choices.checkpoint;
      const { uri } = await ask("draw", [place]);
      await paint(image, uri);
      drawn = now;
      pad.dataset.drawn = Number(pad.dataset.drawn || 0) + 1;
      about.textContent = `drawn in ${Math.round(performance.now() - began)} ms by ${by}`;
    }
  } catch (error) {
    drawn = wanted;
    about.textContent = "Not drawn: " + (error.message || error);
  }
  busy = false;
}

function change(all) {
  wanted += 1;
  draw();
  clearTimeout(resting);
  stale ||= all;
  resting = setTimeout(rest, REST);
}

// When nothing has moved for a moment: the map behind the handle and the corners, if they changed, and the comparison.
async function rest() {
  const now = wanted, by = choices.checkpoint;
  $(".place").textContent = `at ${place.join(", ")} between the seeds ${seeds.join(", ")}`;
  try {
    if (stale) {
      stale = false;
      const line = [...Array(SIDE).keys()].map((k) => (k + 0.5) / SIDE);
      const { uri } = await ask("draw", line.flatMap((v) => line.map((u) => [u, v])));
      if (by !== choices.checkpoint) return;
      $(".atlas").src = uri;
      const canvases = $(".corners").querySelectorAll("canvas");
      for (let k = 0; k < 4; k++) await paint(canvases[k], (await ask("draw", [CORNERS[k]])).uri);
    }
    if (now !== wanted) return;
    const { pictures } = await ask("compare", [place]);
    if (now !== wanted) return;
    $(".same .row").replaceChildren(...pictures.map(({ calls, uri }) => {
      const box = document.createElement("div"), picture = new Image();
      picture.src = uri; picture.alt = `drawn in ${calls} network calls`;
      box.append(picture, calls + (calls === 1 ? " call" : " calls"));
      return box;
    }));
    pad.dataset.compared = now;
  } catch (error) {
    stale = true;  // the map is drawn after the next change
    about.textContent = "Not drawn: " + (error.message || error);
  }
}

function move(u, v) {
  place = [u, v].map((value) => Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000);  // short numbers in links
  handle.style.left = 100 * place[0] + "%"; handle.style.top = 100 * place[1] + "%";
  change(false);
}

function showWeight() { $(".weight output").textContent = Number(weight.value); }

function follow(event) {
  const box = square.getBoundingClientRect();
  move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}

function button(text, value, act) {
  const node = document.createElement("button");
  node.type = "button"; node.textContent = text; node.dataset.value = value;
  node.addEventListener("click", act);
  return node;
}

function fillGroup(selector, values, chosen) {
  const group = $(selector);
  const press = (value) => group.querySelectorAll("button").forEach((node) =>
    node.setAttribute("aria-pressed", node.dataset.value === String(value)));
  group.querySelectorAll("button").forEach((node) => node.remove());
  group.append(...values.map((value) => button(String(value), value, () => { press(value); change(true); })));
  press(chosen);
}

// Open a noise in Generate: that of a seed at a corner, or of a place as ui/runs.py reads it.
function open(noise) {
  const { checkpoint, class_label, weight } = order([place]);
  trigger("open", { checkpoint, class_label, weight, ...noise });
}

function fillCorners() {
  const nodes = seeds.map((seed) => {
    const node = button("", seed, () => open({ seed }));
    node.title = "Open in Generate";
    node.setAttribute("aria-label", `Open seed ${seed} in Generate`);
    node.append(document.createElement("canvas"), String(seed));
    return node;
  });
  const group = $(".corners");
  group.querySelectorAll("button").forEach((node) => node.remove());
  group.append(...nodes);
}

square.addEventListener("pointerdown", (event) => { if (event.button) return; pressed = true; square.setPointerCapture(event.pointerId); follow(event); });
square.addEventListener("pointermove", (event) => { if (pressed) follow(event); });
square.addEventListener("pointerup", () => { pressed = false; });
square.addEventListener("pointercancel", () => { pressed = false; });
square.addEventListener("keydown", (event) => {
  const far = event.shiftKey ? 0.1 : 0.02;
  const step = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
  if (step) { move(place[0] + step[0], place[1] + step[1]); event.preventDefault(); }
});
weight.addEventListener("input", () => { showWeight(); change(true); });
$(".here").addEventListener("click", () => open({ place: `${seeds.join(" ")} at ${place.join(" ")}` }));
$(".dice").addEventListener("click", () => {
  seeds = seeds.map(() => Math.floor(Math.random() * 100000));
  fillCorners(); change(true);
});

// Show the choices of a checkpoint. The place and the seeds stay as they are when another one is chosen.
function begin() {
  const next = data();
  if (!next || choices && choices.checkpoint === next.checkpoint) return;
  if (!choices) seeds = [...next.seeds];
  choices = next;
  wanted += 1;  // so that the pictures of another checkpoint that are on their way are not shown
  for (const canvas of pad.querySelectorAll("canvas")) canvas.width = canvas.height = 1;
  $(".atlas").removeAttribute("src"); $(".same .row").replaceChildren(); about.textContent = "";
  weight.min = choices.weight.lowest; weight.max = choices.weight.highest; weight.step = choices.weight.spacing;
  weight.value = choices.weight.value; showWeight();
  fillGroup(".names", choices.names, choices.class_label);
  fillGroup(".calls", choices.steps, choices.steps[0]);
  fillCorners();
  // The pictures are drawn once the tab is open, not when the page is opened or another checkpoint is chosen.
  if (opening) opening.disconnect();
  opening = new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); move(...place); change(true); }
  });
  opening.observe(square);
}
watch("value", begin);
begin();
