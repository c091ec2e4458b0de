// A guided first minute: some stops on the page, each of which moves a control as a visitor would, and says what it does.
// It starts on a click, can be left at any time, and stores nothing.
const $ = (selector) => element.querySelector(selector);
const tour = $(".tour"), panel = $(".stop"), ring = $(".ring"), start = $(".start"), next = $(".next"), back = $(".back");
const GAP = 12;  // pixels between a control, its ring and the panel
const PATIENCE = 20000;  // milliseconds to wait for a control
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// A stop has its tab, the control at which it stops (the label of a control, or a selector in the tab), and perhaps the
// label of a control of Generate without which it is left out.
const STOPS = [
  { tab: "generate", at: ".track", title: "Show an earlier step",
    move: async () => slide(await wait(() => find(".player[data-done=true] .scrub")), 0.3, true),
    text: "This strip is the whole run, from noise to image. Drag it: the pictures above follow." },
  { tab: "generate", label: "Guidance weight w", title: "Turn guidance off",
    move: async () => { await slide(find("input[type=range]", "Guidance weight w"), 0); press("Generate"); },
    text: "w is the strength of guidance. At w = 0 the model still knows the class, but nothing is guided, so the picture of the guidance is gone. Try 4." },
  { tab: "generate", label: "Noise schedule", title: "Let Live redraw",
    move: async () => { await pick("Instant", "off"); check(".live input"); await pick("Noise schedule", "linear"); },
    text: "With Live on, each change is drawn at once. The schedule is now linear: the curve below the strip has another shape." },
  { tab: "noise", needs: "Instant", at: ".square", title: "One network call", move: walk,
    text: "Every place of this square is another noise. A distilled model turns it into an image in one network call. Drag through it." },
  { tab: "compare", at: ".picture", title: "Two runs from one noise", move: () => slide(find(".share"), 0.25, true),
    text: "Left of the line is run A, right of it run B. Drag the line. The slider below it shows an earlier step of both." },
  { tab: "draw", at: ".pick .row:has(.primary)", title: "Let it read your handwriting",
    move: async () => { await wait(seeAnswer); await pick("Task", "What is it?"); press("Go"); },
    text: "It reads the digit on the pad: the class with the longest bar fits best. Press Clear, write your own digit, and press Go." },
];
let stops = [], at = -1, visit = 0, room = null, follow = 0;

// Find an element in the tab of this stop, or in the control with a label there.
function find(selector, label) {
  return label ? [...room.querySelectorAll(".block")].find((block) => named(block) === label)?.querySelector(selector) : room.querySelector(selector);
}
function named(block) { return block.querySelector("[data-testid=block-info]")?.textContent.trim(); }
function locate(stop) { return stop.label ? [...room.querySelectorAll(".block")].find((block) => named(block) === stop.label) : find(stop.at); }

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Wait until ``look`` finds something that is visible and enabled. Ends the stop if the visitor leaves it meanwhile.
async function wait(look) {
  const mine = visit, end = performance.now() + PATIENCE;
  for (;;) {
    const found = look();
    if (mine !== visit) throw new Left();
    if (found && found.checkVisibility() && !found.disabled) return found;
    if (performance.now() > end) return null;
    await pause(50);
  }
}
class Left extends Error {}

function send(input, ...events) { events.forEach((event) => input.dispatchEvent(new Event(event, { bubbles: true }))); }

// Move a slider to a value, or to a share of its range, in half a second.
async function slide(input, to, share = false) {
  if (!input) return;  // its picture did not arrive in time
  const low = Number(input.min), high = Number(input.max), end = share ? low + to * (high - low) : to;
  const mine = visit, begin = Number(input.value), moves = calm.matches ? 1 : 15;
  for (let k = 1; k <= moves && mine === visit; k++) {
    input.value = begin + (end - begin) * k / moves;
    send(input, "input");
    await pause(35);
  }
  send(input, "change", "pointerup");
}

// Choose a value of a group of buttons, if the group is on the page.
async function pick(label, value) {
  const options = () => locate({ label }) ? [...locate({ label }).querySelectorAll("label")] : [];
  if (!options().length) return;
  const choice = await wait(() => options().find((option) => option.textContent.trim() === value)?.querySelector("input"));
  if (choice && !choice.checked) choice.click();
}

// Walk over the noise pad by the arrow keys.
async function walk() {
  const mine = visit;
  for (let k = 0; k < 8 && mine === visit; k++) {
    find(".square").dispatchEvent(new KeyboardEvent("keydown", { key: k % 2 ? "ArrowDown" : "ArrowRight", shiftKey: true, bubbles: true }));
    await pause(calm.matches ? 0 : 90);
  }
}

// What the Draw tab shows: Gradio cannot end its example before the first part of it is here.
function seeAnswer() { return [...room.querySelectorAll(".player[data-arrived], .reading")].find((shown) => shown.checkVisibility()); }

function check(selector) { if (!find(selector).checked) find(selector).click(); }

function press(name) { [...room.querySelectorAll("button")].find((button) => button.textContent.trim() === name).click(); }

async function enter(tab) {
  document.getElementById(`tab-${tab}-button`).click();
  room = await wait(() => document.getElementById(`tab-${tab}`));
}

async function open() {
  visit += 1;
  await enter("generate");
  await wait(() => locate(STOPS[0]));
  // Some checkpoints lack a control.
  stops = STOPS.filter((stop) => (stop.tab !== "generate" || locate(stop)) && (!stop.needs || locate({ label: stop.needs })));
  ring.showPopover(); panel.showPopover();
  addEventListener("keydown", escape);
  await show(0);
}

async function show(to) {
  visit += 1; at = to;
  const stop = stops[at];
  $("h2").textContent = stop.title; $("p").textContent = stop.text;
  $(".count").textContent = `${at + 1} of ${stops.length}`;
  back.disabled = !at; next.textContent = at === stops.length - 1 ? "Done" : "Next";
  tour.dataset.stop = at; delete tour.dataset.moved;
  next.focus({ preventScroll: true });
  await enter(stop.tab);
  const target = await wait(() => locate(stop));
  cancelAnimationFrame(follow);
  place(target);
  if (!target) return;  // for instance, an example that cannot be drawn
  reveal(target);
  await pause(calm.matches ? 0 : 500);  // the visitor looks at the control first
  await wait(() => target);
  await stop.move();
  await wait(() => target);
  tour.dataset.moved = at;
}

function close() {
  const inside = panel.contains(document.activeElement);
  visit += 1; at = -1;
  cancelAnimationFrame(follow);
  ring.hidePopover(); panel.hidePopover();
  removeEventListener("keydown", escape);
  delete tour.dataset.stop; delete tour.dataset.moved;
  if (inside) start.focus({ preventScroll: true });
}

function escape(event) { if (event.key === "Escape") close(); }

// Scroll the control into the part of the window that neither the stage of a phone nor the panel covers.
function reveal(target) {
  const box = target.getBoundingClientRect(), stage = room.querySelector(".stage .view"), narrow = innerWidth < 544;
  const top = narrow && stage && !stage.contains(target) ? stage.offsetHeight : 0, bottom = narrow ? panel.getBoundingClientRect().top : innerHeight;
  if (box.top < top + GAP || box.bottom > bottom - GAP) {
    scrollBy({ top: (box.top + box.bottom - top - bottom) / 2, behavior: calm.matches ? "auto" : "smooth" });
  }
}

// Keep the ring around the control, and the panel beside it: on a phone, style sheets put it at the bottom.
function place(target) {
  const box = target?.getBoundingClientRect() || new DOMRect(), seen = box.width > 0;
  const { offsetWidth: width, offsetHeight: height } = panel;
  Object.assign(ring.style, { left: box.left - 8 + "px", top: box.top - 8 + "px", width: box.width + 12 + "px", height: box.height + 12 + "px",
                              visibility: seen ? "" : "hidden" });
  if (innerWidth >= 544) {
    const inside = (value, most) => Math.max(GAP, Math.min(value, most - GAP)), far = 8 + GAP;
    const middle = inside(box.top + box.height / 2 - height / 2, innerHeight - height), left = inside(box.left - 8, innerWidth - width);
    const right = [box.right + far, middle], beside = [box.left - far - width, middle];
    const below = [left, box.bottom + far], above = [left, box.top - far - height];
    const fits = ([x, y]) => seen && x >= GAP && y >= GAP && x + width <= innerWidth - GAP && y + height <= innerHeight - GAP;
    const order = box.width > 1.5 * width ? [right, beside, above, below] : [below, right, above, beside];
    const [x, y] = order.find(fits) || [innerWidth - width - 2 * GAP, innerHeight - height - 2 * GAP];
    Object.assign(panel.style, { left: x + "px", top: y + "px" });
  } else {
    Object.assign(panel.style, { left: "", top: "" });
  }
  follow = requestAnimationFrame(() => place(target));
}

const guided = (act) => () => act().catch((error) => { if (!(error instanceof Left)) throw error; });
start.addEventListener("click", guided(open));
back.addEventListener("click", guided(() => show(at - 1)));
next.addEventListener("click", guided(async () => { if (at === stops.length - 1) close(); else await show(at + 1); }));
$(".close").addEventListener("click", close);
