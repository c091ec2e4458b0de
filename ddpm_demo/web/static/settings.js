// The settings of a run: checked, read from a link, and put into words (ui/runs.py and ui/remarks.py).
import { findRow, logSnrGrid } from "./diffusion.js";

export const ALL = "all";

export function checkNumber(name, value, lowest, highest, whole = false) {
  if (typeof value !== "number" || !(value >= lowest && value <= highest) || (whole && !Number.isInteger(value))) {
    const kind = whole ? "a whole number" : "a number";
    throw new RangeError(`${name} is ${JSON.stringify(value)}; it must be ${kind} from ${lowest} to ${highest}`);
  }
}

function checkOneOf(name, value, allowed) {
  if (!allowed.includes(value)) {
    throw new RangeError(`${name} is ${JSON.stringify(value)}; it must be one of ${allowed.join(", ")}`);
  }
}

// Return the fields of Sampling, checked, from the settings of the page.
function readSampling(demo, settings) {
  const sampling = {};
  for (const { name, names, kind, lowest, highest } of demo.settings) {
    const ends = name === "interval" ? ["interval_from", "interval_to"] : [name];
    for (const end of ends) {
      if (names) checkOneOf(end, settings[end], names);
      else checkNumber(end, settings[end], lowest, highest, kind === "int");
    }
    sampling[name] = name === "interval" ? ends.map((end) => settings[end]) : settings[name];
  }
  const [from, to] = sampling.interval;
  if (from > to) throw new RangeError(`the guidance interval begins at log-SNR ${from} and ends at ${to}: exchange them`);
  return sampling;
}

const PLACE = /^(\d{1,10}) (\d{1,10}) (\d{1,10}) (\d{1,10}) at ([01](?:\.\d{1,20})?) ([01](?:\.\d{1,20})?)$/;

// Return the noise at a place in the noise pad, for all images of a run, from its text.
function readPlace({ settings }, text) {
  const found = PLACE.exec(text), { lowest, highest } = settings.find(({ name }) => name === "seed");
  if (!found) {
    throw new RangeError(`place is ${JSON.stringify(text)}; it must be four seeds and a place between them, such as 0 1 2 3 at 0.5 0.25, or empty`);
  }
  const numbers = found.slice(1).map(Number), seeds = numbers.slice(0, 4), place = numbers.slice(4);
  seeds.forEach((seed) => checkNumber("seed", seed, lowest, highest, true));
  place.forEach((coordinate) => checkNumber("place", coordinate, 0, 1));
  return { kind: "MixedNoise", seeds, places: [place] };
}

// Return the settings with those of a preset. A distilled model keeps its sampler, and takes the nearest of its steps.
export function applyPreset({ demo, models }, given, name) {
  const { distilled, fixed, sampling, defaults } = models[given.checkpoint];
  const own = Object.fromEntries(Object.entries(defaults).filter(([key]) => (key in sampling && key !== "seed") || key.startsWith("interval")));
  const settings = { ...given, ...(name === demo.best ? own : demo.presets[name]) };
  const distance = (steps) => Math.abs(steps - settings.steps);
  const nearest = distilled && { steps: distilled.steps.reduce((best, steps) => distance(steps) < distance(best) ? steps : best) };
  return { ...settings, ...fixed, ...nearest };
}

// Return a run with a user's settings, a missing one being the checkpoint's default. Throw a RangeError for a wrong one.
// ``begin`` is that of ``sample`` in diffusion.js.
export function prepare({ demo, models }, given, begin) {
  const checkpoint = given.checkpoint || demo.checkpoints[0];
  checkOneOf("checkpoint", checkpoint, demo.checkpoints);
  const model = models[checkpoint], names = model.label_names;
  const settings = { ...model.defaults, ...given, checkpoint, ...model.fixed }, chosen = settings.class_label;
  checkNumber("count", settings.count, 1, demo.most_images, true);
  checkOneOf("class_label", chosen, [...names, ALL]);
  const sampling = readSampling(demo, settings);
  if (model.distilled) findRow(model, sampling);
  const classes = chosen === ALL ? names.map((_, k) => k) : [names.indexOf(chosen)];
  const labels = names.length ? classes.flatMap((label) => Array(settings.count).fill(label)) : null;
  const images = labels?.length ?? settings.count;
  if (settings.place !== "") begin = readPlace(demo, settings.place);
  return {
    model, settings, sampling, images, columns: countColumns(images), names: nameImages(labels, names, settings.count),
    guided: !model.distilled && ![0, -1].includes(sampling.weight),
    request: { checkpoint, labels, count: images, begin, sampling },
  };
}

function nameImages(labels, names, count) {
  const classes = labels?.map((label) => names[label]) ?? Array(count).fill("image");
  return classes.map((name, k) => count > 1 ? `${name} (${k % count + 1})` : name);
}

// Images in a row: as square as whole rows allow.
function countColumns(images) {
  let columns = Math.ceil(Math.sqrt(images));
  while (images % columns) columns += 1;
  return columns;
}

// Network evaluations of each image of a run.
export function countCalls({ samplers }, { model, sampling, guided, request }) {
  const [low, high] = sampling.interval, grid = logSnrGrid(model, sampling, request.begin?.start);
  const costs = grid.map((logSnr) => guided && low <= logSnr && logSnr <= high ? 2 : 1);
  const second = samplers[sampling.sampler].calls === 2 ? costs.slice(1) : [];  // a second call is at the next log-SNR
  return [...costs, ...second].reduce((sum, cost) => sum + cost, 0);
}

// Return the settings in the query of a link. Other names are ignored; a value that is not a number stays text.
export function readQuery({ defaults }, query) {
  const found = Object.entries(defaults).filter(([name]) => query.has(name));
  return Object.fromEntries(found.map(([name, value]) => {
    const text = query.get(name), number = Number(text);
    return [name, typeof value === "string" || !text || Number.isNaN(number) ? text : number];
  }));
}

// Return sentences about what the settings of a run mean together.
export function remarkOn(demo, { model, sampling, request: { begin } }) {
  const { weight, sampler, steps, interval, variance } = sampling, meanings = { "-1": ": the class is ignored", 0: ": the class is used, without guidance" };
  const guidance = `w = ${weight} (guidance_scale ${Number((weight + 1).toFixed(6))} in diffusers)${meanings[weight] ?? ""}.`;
  const place = begin?.kind === "MixedNoise" ? [`All images start from the noise at (${begin.places[0].join(", ")}) between the `
    + `seeds ${begin.seeds.join(", ")} of the noise pad.`] : [];
  if (model.distilled) {
    return `${[guidance, ...place].join(" ")} This distilled model needs ${steps} network call${steps === 1 ? "" : "s"} for an image, because it contains its guidance. The `
      + "sampler, the schedule and the interval have no effect on it.";
  }
  const row = demo.samplers[sampler], [from, to] = interval, always = demo.settings.find(({ name }) => name === "interval");
  const sentences = model.label_names.length ? [guidance, ...place] : place;
  if (from > always.lowest || to < always.highest) {
    const between = `where the log-SNR is between ${from} and ${to}.`;
    sentences.push(weight === 0 ? "The guidance interval has no effect at this weight."
      : weight === -1 ? `The class is ignored only ${between}` : `Guided only ${between}`);
  }
  if (row.calls === 2) sentences.push("This sampler asks the network twice a step.");
  const noisy = row.many_steps || row.uses.includes("variance") && variance === "beta";
  if (noisy && steps < 50) sentences.push("With so few steps this sampler stays noisy: try 100 or more.");
  return sentences.join(" ");
}

// Return the words beside each control of ``demo.notes``: what it means, or why it has no effect on a run.
export function noteEffects({ notes, samplers }, { model, sampling }) {
  const names = Object.keys(notes), used = samplers[sampling.sampler].uses, settings = Object.values(samplers).flatMap(({ uses }) => uses);
  const explain = (name) => {
    if (model.distilled) return "no effect on a distilled model";
    if (settings.includes(name) && !used.includes(name)) return "no effect with this sampler";
    if (name.startsWith("interval") && sampling.weight === 0) return "no effect: nothing is guided at w = 0";
    return notes[name];
  };
  return Object.fromEntries(names.map((name) => [name, explain(name)]));
}
