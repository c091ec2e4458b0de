// The page: loads the models, and builds each tab when it is first opened.
import { make } from "./controls.js";
import { startEngine } from "./engine.js";
import { readPicture, encodePictures } from "./images.js";
import { fetchJson } from "./network.js";
import * as compare from "./tabs/compare.js";
import * as draw from "./tabs/draw.js";
import * as forward from "./tabs/forward.js";
import * as generate from "./tabs/generate.js";
import * as noise from "./tabs/noise.js";
import * as smallSteps from "./tabs/small_steps.js";

const FOLLOWS = true;  // a tab that is built for the checkpoint of Generate
const EXAMPLE = 3;  // the real image that a pad shows first
const loading = document.querySelector("#loading"), bar = loading.querySelector("progress"), message = document.querySelector("#message");

function say(text) {
  message.textContent = text;
  message.hidden = !text;
}

let failed = false;  // whether the message is about a model that could not be loaded

function report({ event, received, total, message: problem }) {
  if (event === "progress") {
    [bar.max, bar.value] = [total, received];
    loading.querySelector("span").textContent = `Loading the model: ${(received / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
  }
  loading.hidden = event !== "progress";
  if (event === "ready" && failed) say("");
  failed = event === "failed" || failed && event !== "ready";
  if (event === "failed") say(`The model cannot be loaded (${problem}). Load this page again to try once more.`);
}

// Return the value of a pad for a checkpoint (fill_pad in ui/components/pad.py).
async function describePad({ name, image_size: size, channels, label_names: names, examples }) {
  const value = { size, channels, marks: false, names };
  if (!examples) return value;
  const row = `models/${examples}`, { width } = await readPicture(row), shown = EXAMPLE % (width / size);
  return { ...value, examples: row, ink: encodePictures([await readPicture(row, [shown * size, 0, size, size])]) };
}

// Return the checkpoint itself, or that from which it was distilled, which can begin anywhere between image and noise.
const baseOf = ({ pairs }, checkpoint) => pairs.find(({ student }) => student === checkpoint)?.teacher ?? checkpoint;

// Build the tabs, rows of id, title and module, when they are first opened. One that FOLLOWS the checkpoint of Generate is
// built again, for that checkpoint or its teacher, when it is opened after another was chosen.
function buildTabs(context, rows) {
  const list = document.querySelector("[role=tablist]"), main = document.querySelector("main"), built = new Map();
  const tabs = rows.map(([id, title]) => make("button", { type: "button", role: "tab", id: `to-${id}`, "aria-controls": `tab-${id}` }, title));
  const followed = (row) => row[3] ? baseOf(context, context.generate.read().checkpoint) : "";
  const rooms = rows.map(([id]) => make("section", { role: "tabpanel", id: `tab-${id}`, "aria-labelledby": `to-${id}` }));

  function select(chosen, focus = false) {
    tabs.forEach((tab, k) => {
      tab.setAttribute("aria-selected", k === chosen);
      tab.tabIndex = k === chosen ? 0 : -1;
      rooms[k].hidden = k !== chosen;
    });
    if (focus) tabs[chosen].focus();
    tabs[chosen].scrollIntoView({ block: "nearest", inline: "nearest" });
    const checkpoint = followed(rows[chosen]);
    if (built.get(chosen) === checkpoint) return undefined;
    built.set(chosen, checkpoint);
    rooms[chosen].replaceChildren();
    const opened = rows[chosen][2].build(rooms[chosen], context, checkpoint);
    opened?.catch?.((error) => {  // such as without a connection; the tab is built again when it is opened again
      if (built.get(chosen) === checkpoint) built.delete(chosen);
      rooms[chosen].replaceChildren(make("p", { class: "wrong", role: "alert" }, `This tab cannot be opened: ${error.message}`));
    });
    return opened;
  }

  tabs.forEach((tab, k) => tab.addEventListener("click", () => select(k)));
  list.addEventListener("keydown", ({ key }) => {
    const now = tabs.indexOf(document.activeElement), last = tabs.length - 1;
    const next = { ArrowLeft: now ? now - 1 : last, ArrowRight: now < last ? now + 1 : 0, Home: 0, End: last }[key];
    if (next !== undefined) select(next, true);
  });
  list.append(...tabs);
  main.append(...rooms);
  context.openTab = (id) => select(rows.findIndex((row) => row[0] === id));
  return select(0);
}

async function start() {
  const demo = await fetchJson("demo.json"), engine = startEngine(report);
  engine.open(demo.checkpoints[0]);  // the others are loaded when they are first used
  const facts = await Promise.all(demo.checkpoints.map((name) => fetchJson(`models/${name}.json`)));
  const models = Object.fromEntries(facts.map((model) => [model.name, model])), examples = (name) => describePad(models[name]);
  const pairs = facts.filter(({ teacher }) => teacher).map(({ name, teacher }) => ({ teacher, student: name }));
  const context = { demo, engine, models, pairs, examples, say };
  context.generate = buildTabs(context, [
    ["generate", "Generate", generate], ["forward", "Forward process", forward, FOLLOWS], ["compare", "Compare", compare], ["draw", "Draw", draw, FOLLOWS],
    ...(pairs.length ? [["noise", "Noise pad", noise, FOLLOWS]] : []), ["small-steps", "Why small steps?", smallSteps],
  ]);
  context.generate.open(new URLSearchParams(location.search));
}

start().catch((error) => {
  loading.hidden = true;
  say(`The demo cannot be started: ${error.message}`);
});
