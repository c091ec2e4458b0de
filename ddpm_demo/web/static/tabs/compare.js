// The Compare tab: a grid of two settings with the same noise, and two of its runs under a wipe (ui/tabs/compare_tab.py).
import { animate } from "../animation.js";
import * as grid from "../components/grid.js";
import * as player from "../components/player.js";
import { button, checks, dropdown, make } from "../controls.js";
import { film, newName, spreadEvenly } from "../film.js";
import { mount } from "../host.js";
import { encodePictures, renderGrid } from "../images.js";
import { ALL, countCalls, prepare } from "../settings.js";

const HINT = `All runs have the settings of Generate that you do not vary, its seed included. If all classes are chosen there, a single
one is compared here. Drag the line between run A and run B. Click a cell to compare it with the top of its column, and to play it below.`;

export function build(room, context) {
  const { demo, models, engine, generate } = context;
  const wrong = make("p", { class: "wrong", role: "alert" }), sheet = make("div"), view = make("div", { class: "view" });
  const go = button("Fill the grid", fill, "primary"), stop = button("Stop", () => engine.stop("compare"));
  const [down, across] = ["Down", "Across"].map((label, k) => buildPicker(label, ...demo.example.slice(2 * k, 2 * k + 2)));
  const pairs = Object.entries(demo.pairs).map(([name, axes]) => button(name, () => {
    if (go.disabled) return;  // a grid is being filled
    down.choose(...axes.slice(0, 2)); across.choose(...axes.slice(2));
    fill();
  }));
  let plan = null;  // the settings of each cell, [row][column]
  room.append(make("p", { class: "hint" }, HINT), make("div", { class: "row pairs" }, ...pairs), make("div", { class: "columns even" }, down.node, across.node),
    make("div", { class: "row" }, go, stop), wrong, sheet, view);
  stop.disabled = true;
  const showGrid = mount(grid, sheet, { on: { open: ({ row, column }) => play(plan[row][column]) } }), showFilm = mount(player, view, { server: { export: animate } });

  function offer(name) {
    const names = models[generate.read().checkpoint].label_names;
    return name === "class" ? { offered: names, first: names } : demo.axes.find((axis) => axis.name === name);
  }

  function buildPicker(label, first, firstValues) {
    const choices = ["class", ...demo.axes.map(({ name }) => name)].map((name) => [name, name]);
    const axis = dropdown(label, choices, first), values = checks("Values", []);
    const refill = () => {
      const { offered, first: chosen } = offer(axis.value);
      values.offer(offered.map((value) => [value, value]), chosen);
    };
    axis.node.addEventListener("input", refill);
    const choose = (name, chosen) => { axis.value = name; values.offer(offer(name).offered.map((value) => [value, value]), chosen); };
    choose(first, firstValues);
    return { axis, values, choose, node: make("div", {}, axis.node, values.node) };
  }

  // Return the run of each cell, [row][column]. After another checkpoint was chosen, an axis of classes has those of it.
  function planGrid() {
    const known = offer("class").offered;
    for (const picker of [down, across]) {
      if (picker.axis.value === "class" && picker.values.value.some((name) => !known.includes(name))) picker.choose("class", known);
    }
    const names = [down.axis.value, across.axis.value], rows = down.values.value, columns = across.values.value;
    if (names[0] === names[1]) throw new RangeError(`both axes are ${names[0]}: choose two different ones`);
    if (!rows.length || !columns.length) throw new RangeError("an axis has no values: choose at least one");
    if (rows.length * columns.length > demo.most_cells) {
      throw new RangeError(`${rows.length} x ${columns.length} cells are too many: at most ${demo.most_cells}`);
    }
    const settings = { ...generate.read(), count: 1 }, own = models[settings.checkpoint].label_names;
    if (settings.class_label === ALL && own.length) settings.class_label = own[Math.min(3, own.length - 1)];
    if (names.includes("seed")) settings.place = "";  // else the seed would change nothing
    const [r, c] = names.map((name) => name === "class" ? "class_label" : name);
    return { axes: names, rows, columns, cells: rows.map((row) => columns.map((column) => prepare(context, { ...settings, [r]: row, [c]: column }))) };
  }

  async function fill() {
    wrong.textContent = "";
    try {
      const { axes, rows, columns, cells } = planGrid(), runs = cells.flat(), calls = runs.map((run) => countCalls(demo, run));
      const shown = { run: newName(), axes, rows: rows.map(String), columns: columns.map(String), cells: [], done: false, progress: "starting" };
      const all = calls.reduce((sum, count) => sum + count, 0), began = performance.now();
      let made = 0;
      plan = cells;
      showGrid({ ...shown });
      [go.disabled, stop.disabled] = [true, false];
      for (const [k, run] of runs.entries()) {
        let last = null;
        const estimates = [];
        for await (const { step } of engine.ask("sample", "compare", run.request)) {
          last = step;
          if (spreadEvenly(step.total, demo.steps_shown).has(step.index)) estimates.push(step.x0);
        }
        if (last?.index + 1 !== last?.total || !last) break;
        const row = Math.floor(k / columns.length), column = k % columns.length, seconds = (performance.now() - began) / 1000;
        const pictures = estimates.map((x0) => renderGrid(x0, run.model.channels, run.model.image_size, 1, 0));
        const image = encodePictures(pictures.slice(-1)), steps = encodePictures(pictures);
        shown.cells.push({ row, column, image, steps, label: `${axes[0]} ${rows[row]}, ${axes[1]} ${columns[column]}` });
        made += calls[k];
        shown.done = k + 1 === runs.length;
        const left = shown.done ? "" : `, about ${(seconds * (all / made - 1)).toFixed()} s left`;
        shown.progress = `${k + 1} of ${runs.length} cells, ${seconds.toFixed(1)} s${left}`;
        showGrid({ ...shown });
      }
      if (!shown.done) showGrid({ ...shown, progress: `stopped after ${shown.cells.length} of ${runs.length} cells` });
    } catch (error) {
      wrong.textContent = error.message;
    }
    [go.disabled, stop.disabled] = [false, true];
  }

  async function play(run) {
    try {
      for await (const growing of film(context, run, "cell")) showFilm(growing);
    } catch (error) {
      wrong.textContent = error.message;
    }
  }
}
