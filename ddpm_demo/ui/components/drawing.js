// A sheet of points: shapes to choose, and a pen for each of two classes. Its value: {chosen, strokes: [[class, [[x, y], ...]]]},
// with x to the right and y upwards. The first value also holds what belongs to the sheet: {shapes, reach, spacing, most}.
const $ = (selector) => element.querySelector(selector);
const sheet = $(".sheet"), note = $(".note");
const START = "Choose a shape, or draw your own: each line is a set of points.";
let about = null, strokes = [], chosen = "", kind = 0, stroke = null;

function data() {
  try { return typeof props.value === "string" ? JSON.parse(props.value || "null") : props.value; } catch { return null; }
}

function draw() {
  const box = sheet.getBoundingClientRect(), sharp = window.devicePixelRatio || 1;
  if (!box.width) return;
  sheet.width = sheet.height = Math.round(box.width * sharp);
  const pen = sheet.getContext("2d"), style = getComputedStyle(element);
  for (const [label, points] of strokes) {
    pen.fillStyle = style.getPropertyValue(label ? "--chart-1" : "--chart-2");
    for (const [x, y] of points) {
      pen.beginPath();
      pen.arc((x / about.reach + 1) / 2 * sheet.width, (1 - y / about.reach) / 2 * sheet.width, 2.8 * sharp, 0, 2 * Math.PI);
      pen.fill();
    }
  }
}

function count() { return strokes.reduce((sum, [, points]) => sum + points.length, 0); }

function press() {
  element.querySelectorAll("[data-shape]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.shape === chosen));
  element.querySelectorAll("[data-pen]").forEach((button) => button.setAttribute("aria-pressed", Number(button.dataset.pen) === kind));
}

function send() {
  strokes = strokes.filter(([, points]) => points.length);
  element.dataset.points = count();
  props.value = { chosen, strokes };
  note.textContent = chosen ? START : strokes.length ? `${count()} of ${about.most} points` : "Draw a line.";
  press(); draw();
  trigger(strokes.length ? "input" : "empty");
}

function where(event) {
  const box = sheet.getBoundingClientRect(), reach = about.reach;
  const inside = (value) => Math.round(1000 * Math.max(-reach, Math.min(reach, value))) / 1000;
  return [inside((2 * (event.clientX - box.left) / box.width - 1) * reach), inside((1 - 2 * (event.clientY - box.top) / box.height) * reach)];
}

// A line grows by points at equal distances, whatever the speed of the pointer.
function extend(to) {
  for (;;) {
    const [x, y] = stroke[stroke.length - 1], way = Math.hypot(to[0] - x, to[1] - y);
    if (way < about.spacing || count() >= about.most) break;
    const share = about.spacing / way;
    stroke.push([x + share * (to[0] - x), y + share * (to[1] - y)].map((value) => Math.round(1000 * value) / 1000));
  }
  draw();
}

sheet.addEventListener("pointerdown", (event) => {
  if (!about) return;
  event.preventDefault();
  if (chosen) { strokes = []; chosen = ""; }  // a shape gives way to a drawing
  if (count() >= about.most) { note.textContent = `The sheet holds at most ${about.most} points: undo a line, or clear it.`; return; }
  sheet.setPointerCapture(event.pointerId);
  stroke = [where(event)];
  strokes.push([kind, stroke]);
  draw();
});
sheet.addEventListener("pointermove", (event) => { if (stroke) extend(where(event)); });
for (const end of ["pointerup", "pointercancel"]) sheet.addEventListener(end, () => { if (stroke) { stroke = null; send(); } });
element.querySelectorAll("[data-pen]").forEach((button) => button.addEventListener("click", () => {
  kind = Number(button.dataset.pen); press();
}));
$(".undo").addEventListener("click", () => { strokes.pop(); chosen = ""; send(); });
$(".clear").addEventListener("click", () => { strokes = []; chosen = ""; send(); });

function begin() {
  const value = data();
  if (about || !value || !value.shapes) return;
  about = value; strokes = value.strokes; chosen = value.chosen;
  $(".shapes").replaceChildren(...Object.keys(about.shapes).map((name) => {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = name; button.dataset.shape = name;
    button.addEventListener("click", () => { chosen = name; strokes = structuredClone(about.shapes[name]); send(); });
    return button;
  }));
  note.textContent = START;
  press(); draw();
  // The sheet has no width until the tab is opened; only then the first film is computed, wherever the page is scrolled.
  let opened = false;
  new ResizeObserver(() => {
    draw();
    if (!opened && sheet.clientWidth) { opened = true; send(); }
  }).observe(sheet);
}
watch("value", begin);
begin();
