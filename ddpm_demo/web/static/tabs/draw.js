// The Draw tab: the model denoises, completes or classifies an image of the user (ui/tabs/draw_tab.py).
import { animate } from "../animation.js";
import { drawBars, escape } from "../charts.js";
import * as pad from "../components/pad.js";
import * as player from "../components/player.js";
import { button, make, number, radio, slider } from "../controls.js";
import { film } from "../film.js";
import { mount } from "../host.js";
import { readPicture, readPixels } from "../images.js";
import { checkNumber, prepare } from "../settings.js";
import { listClasses } from "./generate.js";

const HINT = `Draw something, then choose a task. Noise and denoise (SDEdit): what remains of the drawing from t = 600, and what
from t = 900? Complete it (inpainting): press Mark, paint over the region that the model replaces, and press Go. What is it? shows
for which class the denoising error is smallest: the model classifies without being trained for it. A distilled model can only
draw from noise, so the model that it was distilled from is used here.`;
const ANY = "any", MARKED = "marked", BRIGHT = "bright";

export async function build(room, context, checkpoint) {
  const { demo, models, engine, examples } = context, about = demo.draw, model = models[checkpoint];
  const seeds = demo.settings.find(({ name }) => name === "seed");
  const names = model.label_names, tasks = names.length ? about.tasks : about.tasks.slice(0, 2), [renoise, complete, read] = about.tasks;
  const task = radio("Task", tasks.map((name) => [name, name]), renoise), sheet = make("div");
  const label = radio("Paint as class", [...listClasses(model), [ANY, ANY]], ANY, "classes", "any: no class and no guidance");
  const weight = slider("Guidance weight w", 0, 8, 0.1, 1, "no effect if the class is any"), last = demo.forward.last_timestep;
  const t = slider("Noise it up to t", 0, last, 1, 700, `${last}: only noise is left`), seed = number("Seed", 0, seeds.highest, 0);
  const keep = radio("Keep", [[MARKED, "all but what I marked"], [BRIGHT, "only the bright strokes"]], MARKED);
  const draws = slider("Noise draws", 4, about.most_draws, 4, 32, "more: better, slower");
  const wrong = make("p", { class: "wrong", role: "alert" }), view = make("div"), chart = make("div");
  let drawing = null;  // until the first picture is loaded
  const go = button("Go", run, "primary"), stop = button("Stop", () => engine.stop("draw"));
  room.append(make("p", { class: "hint" }, HINT), make("div", { class: "layout" }, make("div", { class: "pick" }, task.node, sheet,
    make("div", { class: "row" }, go, stop), wrong, label.node, weight.node, t.node, keep.node, draws.node, seed.node),
    make("div", { class: "view" }, view, chart)));
  stop.disabled = true;
  drawing = await examples(checkpoint);
  mount(pad, sheet, { value: { ...drawing, marks: true }, on: { input: (_, value) => { drawing = value; } } });
  const show = mount(player, view, { server: { export: animate } });

  function showControls() {
    const reads = task.value === read;
    const hidden = [[label, reads || !names.length], [weight, reads || !names.length], [t, task.value !== renoise], [keep, task.value !== complete], [draws, !reads]];
    hidden.forEach(([control, yes]) => { control.node.hidden = yes; });
    [view.hidden, chart.hidden] = [reads, !reads];
  }

  async function readDrawing() {
    if (!drawing?.ink) throw new RangeError("draw something first, or choose one of the images below the pad");
    const { image } = readPixels(await readPicture(drawing.ink), model.channels), pixels = model.image_size ** 2;
    const marked = drawing.mask ? readPixels(await readPicture(drawing.mask), 1).opaque : new Uint8Array(pixels);
    return { image, marked };
  }

  function chooseBegin({ image, marked }) {
    if (task.value === renoise) return { kind: "NoisedImage", image, start: t.value };
    const pixels = marked.length, brightest = (k) => Math.max(...Array.from({ length: model.channels }, (_, c) => image[c * pixels + k]));
    const kept = marked.map((yes, k) => keep.value === MARKED ? !yes : brightest(k) > about.bright);
    if (kept.every(Boolean)) throw new RangeError("nothing is left to paint: mark a region first, or keep only the bright strokes");
    return { kind: "Completion", image, keep: kept };
  }

  function prepareVariants(begin) {
    const sampler = begin.kind === "NoisedImage" ? "dpm++2m" : "ddpm", free = label.value === ANY;
    const settings = { checkpoint, sampler, steps: about.steps, count: about.variants, seed: seed.value,
      class_label: free ? names[0] : label.value, weight: free ? -1 : weight.value };
    return prepare(context, names.length ? settings : { ...settings, class_label: "all" }, begin);
  }

  async function run() {
    wrong.textContent = "";
    [go.disabled, stop.disabled] = [true, false];
    try {
      checkNumber("noise draws", draws.value, 4, about.most_draws, true);
      checkNumber("seed", seed.value, seeds.lowest, seeds.highest, true);
      const drawn = await readDrawing();
      if (task.value === read) await classify(drawn.image);
      else await paint(prepareVariants(chooseBegin(drawn)));
    } catch (error) {
      wrong.textContent = error.message;
    }
    [go.disabled, stop.disabled] = [false, true];
  }

  async function paint(prepared) {
    const { sampler, schedule, steps, weight: used } = prepared.settings;
    const settings = { task: task.value, class_label: label.value, t: t.value, seed: seed.value, weight: used, sampler, schedule, steps };
    for await (const growing of film(context, prepared, "draw")) show({ ...growing, settings, link: "" });
  }

  async function classify(image) {
    for await (const { reading } of engine.ask("classify", "draw", { checkpoint, image, draws: draws.value, seed: seed.value })) {
      chart.innerHTML = drawReading(reading, names);
    }
  }

  task.node.addEventListener("input", showControls);
  showControls();
}

// A longer bar is a smaller error; the whisker is its uncertainty.
function drawReading({ draws, total, errors, excess, spread }, names) {
  const best = errors.indexOf(Math.min(...errors)), worst = Math.max(...excess) || 1;
  const bars = names.map((name, k) => ({ name, length: 1 - excess[k] / worst, spread: k === best ? 0 : spread[k] / worst, text: errors[k].toFixed(4) }));
  const possible = names.filter((_, k) => k !== best && !(excess[k] > 2 * spread[k]));
  const sure = possible.length ? `, but ${escape(possible.join(", "))} cannot be excluded yet.` : ". All other classes are worse by more than two standard errors.";
  return `<div class="reading" data-label="${escape(names[best])}" data-draws="${draws}">
    ${drawBars("Denoising error by class (longer bar: smaller error)", bars, names[best])}
    <p class="sentence">Least error: <b>${escape(names[best])}</b>${sure} ${draws} of ${total} noise draws, each shared by all classes;
    whiskers: standard error of the difference to the best.</p></div>`;
}
