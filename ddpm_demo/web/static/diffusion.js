// The mathematics of diffusion in the browser. A function mirrors that of the same name in ddpm_demo/diffusion, models or
// generation, where its equation and its source are given. Scalars are float64. Images and states are flat
// Float32Arrays of shape (N, C, H, W). ``model`` is the JSON of an exported checkpoint (see export.py), and
// ``await network(x, timestep, labels)`` returns the output of its network, an array like x.
import { Generator, randn, randperm } from "./random.js";

const range = (count, value) => Array.from({ length: count }, (_, k) => value(k));
const clamp = (value, lowest, highest) => Math.min(Math.max(value, lowest), highest);
const sigmoid = (value) => 1 / (1 + Math.exp(-value));

function linspace(first, last, count) {
  const distance = (last - first) / (count - 1);
  return range(count, (k) => k < count / 2 ? first + k * distance : last - (count - 1 - k) * distance);
}

function oneOf(name, value, table) {
  if (Object.hasOwn(table, value)) return table[value];
  throw new RangeError(`${name} is ${JSON.stringify(value)}; it must be one of ${Object.keys(table).join(", ")}`);
}

// Schedules (diffusion/schedule.py)

export const SCHEDULES = {
  linear: (T) => linspace(1e-4, 0.02, T),
  quadratic: (T) => linspace(Math.sqrt(1e-4), Math.sqrt(0.02), T).map((root) => root ** 2),
  cosine: (T) => {
    const alphaBars = range(T + 1, (k) => Math.cos((k / T + 0.008) / 1.008 * Math.PI / 2) ** 2);
    return range(T, (k) => Math.min(1 - alphaBars[k + 1] / alphaBars[k], 0.999));
  },
  sigmoid: (T) => linspace(-6, 6, T).map((value) => sigmoid(value) * (0.02 - 1e-4) + 1e-4),
};

export class Schedule {
  constructor(betas) {
    let product = 1;
    this.betas = betas;
    this.alphaBars = betas.map((beta) => product *= 1 - beta);
    this.logSnrs = this.alphaBars.map((value) => Math.log(value / (1 - value)));
    this.length = betas.length;
  }

  static named(name, T = 1000) {
    return new Schedule(oneOf("schedule", name, SCHEDULES)(T));
  }

  get range() {
    return [this.logSnrs[this.length - 1], this.logSnrs[0]];
  }

  logSnr(t) {
    t = clamp(t, 0, this.length - 1);
    const below = Math.min(Math.floor(t), this.length - 2);
    return this.logSnrs[below] + (t - below) * (this.logSnrs[below + 1] - this.logSnrs[below]);
  }

  timestep(logSnr) {
    const found = this.logSnrs.findIndex((value) => value <= logSnr);
    const above = clamp(found < 0 ? this.length : found, 1, this.length - 1);
    const high = this.logSnrs[above - 1], low = this.logSnrs[above];
    return above - 1 + clamp((high - logSnr) / (high - low), 0, 1);
  }

  // Return the increasing log-SNRs that a sampler visits. ``start`` is a timestep, or null for the noisiest.
  grid(steps, within = this.range, start = null) {
    if (!Number.isInteger(steps) || steps < 1 || steps > this.length) {
      throw new RangeError(`steps is ${steps}; it must be a whole number from 1 to ${this.length}`);
    }
    const [lowest, highest] = within, first = this.timestep(highest), noisiest = this.timestep(lowest);
    const last = start === null ? noisiest : clamp(start, first, noisiest);
    const grid = range(steps, (k) => clamp(this.logSnr(last - k * (last - first + 1) / steps), lowest, highest));
    return grid.filter((value, k) => value !== grid[k - 1]);
  }
}

export class ContinuousSchedule extends Schedule {
  static LOW = 0.1;
  static HIGH = 20;
  static EARLIEST = 1e-5;

  constructor(T = 1000) {
    super(range(T, (k) => -Math.expm1(ContinuousSchedule.exponent(k / T) - ContinuousSchedule.exponent((k + 1) / T))));
  }

  static exponent(time) {
    return this.LOW * time + (this.HIGH - this.LOW) * time ** 2 / 2;
  }

  get range() {
    return [this.logSnr(this.length - 1), this.logSnr(-1)];
  }

  logSnr(t) {
    const time = clamp((t + 1) / this.length, ContinuousSchedule.EARLIEST, 1);
    return -Math.log(Math.expm1(ContinuousSchedule.exponent(time)));
  }

  timestep(logSnr) {
    const { LOW, HIGH, EARLIEST } = ContinuousSchedule, exponent = -logSigmoid(logSnr);
    const time = 2 * exponent / (LOW + Math.sqrt(LOW ** 2 + 2 * (HIGH - LOW) * exponent));
    return clamp(time, EARLIEST, 1) * this.length - 1;
  }
}

export const trainedSchedule = (model) => model.betas ? new Schedule(model.betas) : new ContinuousSchedule();

// The denoiser (diffusion/denoiser.py). A denoiser is ``await denoise(x, logSnr, labels)`` and returns the clean estimate
// and the direction of its guidance, {x0, direction}; without guidance, the direction is null.

export const alphaSigma = (logSnr) => [Math.sqrt(sigmoid(logSnr)), Math.sqrt(sigmoid(-logSnr))];
export const logSigmoid = (value) => Math.min(value, 0) - Math.log1p(Math.exp(-Math.abs(value)));

// Return x_t for the noise of N images. ``x0`` is N images, or one that is used for all.
export function addNoise(x0, logSnr, noise) {
  const [alpha, sigma] = alphaSigma(logSnr);
  return noise.map((value, k) => alpha * x0[k % x0.length] + sigma * value);
}

export function targetWeights(prediction, alpha, sigma) {
  return oneOf("prediction", prediction, { epsilon: [0, 1], sample: [1, 0], v_prediction: [-sigma, alpha] });
}

export const makeDenoiser = (network, schedule, prediction) => async (x, logSnr, labels) => {
  const output = await network(x, Math.fround(schedule.timestep(logSnr)), labels);
  const [alpha, sigma] = alphaSigma(logSnr), [a, b] = targetWeights(prediction, alpha, sigma);
  return { x0: x.map((value, k) => (b * value - sigma * output[k]) / (b * alpha - sigma * a)), direction: null };
};

// Guidance (diffusion/guidance.py)

export const classifierFree = (denoise, weight, nullLabel, interval) => async (x, logSnr, labels) => {
  if (weight === 0 || logSnr < interval[0] || logSnr > interval[1]) return denoise(x, logSnr, labels);
  const nulls = labels.map(() => nullLabel), twice = new Float32Array(2 * x.length);
  if (weight === -1) return denoise(x, logSnr, nulls);
  twice.set(x);
  twice.set(x, x.length);
  const { x0 } = await denoise(twice, logSnr, [...labels, ...nulls]);
  const direction = x.map((_, k) => x0[k] - x0[x.length + k]);
  return { x0: direction.map((value, k) => x0[k] + weight * value), direction };
};

export const keepKnown = (denoise, known, keep) => async (x, logSnr, labels) => {
  const { x0, direction } = await denoise(x, logSnr, labels);
  return { x0: x0.map((value, k) => keep[k % keep.length] ? known[k % known.length] : value), direction };
};

// Distilled models (diffusion/distillation.py): their label is the row of (class, weight, number of steps) in a table.

// Return the places of the weight and of the number of steps in the table, and the number of weights. Throw a RangeError for
// settings that the model did not learn.
export function findRow({ distilled, sampling: own }, sampling) {
  const { lowest, highest, spacing, steps } = distilled, place = (weight) => Math.round((weight - lowest) / spacing);
  const weight = place(sampling.weight), weights = place(highest) + 1, size = steps.indexOf(sampling.steps);
  if (size < 0) throw new RangeError(`steps is ${sampling.steps}; this distilled model takes ${steps.join(", ")} steps`);
  if (!(weight >= 0 && weight < weights) || Math.abs(lowest + weight * spacing - sampling.weight) > 1e-6) {
    const known = `the weights from ${lowest} to ${highest} in steps of ${spacing}`;
    throw new RangeError(`weight is ${sampling.weight}; this distilled model knows ${known}`);
  }
  for (const name of ["sampler", "schedule"]) oneOf(name, sampling[name], { [own[name]]: true });
  return { weight, weights, size };
}

function condition(denoise, model, sampling) {
  const { weight, weights, size } = findRow(model, sampling), sizes = model.distilled.steps.length;
  return (x, logSnr, labels) => denoise(x, logSnr, labels.map((label) => (label * weights + weight) * sizes + size));
}

// Samplers (diffusion/samplers.py)

export function impliedNoise(x, x0, logSnr) {
  const [alpha, sigma] = alphaSigma(logSnr);
  return x.map((value, k) => (value - alpha * x0[k]) / sigma);
}

export function step(x, x0, s, t, eta = 0, z = null, variance = "posterior") {
  const [alpha, sigma] = alphaSigma(t), eps = impliedNoise(x, x0, s);
  const nu = eta * sigma * Math.sqrt(-Math.expm1(s - t)), rest = Math.sqrt(sigma ** 2 - nu ** 2);
  const scale = oneOf("variance", variance, { posterior: nu, beta: nu * alphaSigma(s)[1] / sigma });
  return x0.map((value, k) => alpha * value + rest * eps[k] + (z ? scale * z[k] : 0));
}

export function sdeStep(x, x0, s, t, z) {
  const B = logSigmoid(t) - logSigmoid(s), sigma = alphaSigma(s)[1], eps = impliedNoise(x, x0, s);
  return x.map((value, k) => value + (value / 2 - eps[k] / sigma) * B + Math.sqrt(B) * z[k]);
}

export function langevinStep(x, x0, logSnr, snr, z) {
  const sigma = alphaSigma(logSnr)[1], size = 2 * (snr * sigma) ** 2, eps = impliedNoise(x, x0, logSnr);
  return x.map((value, k) => value - size / sigma * eps[k] + Math.sqrt(2 * size) * z[k]);
}

const stepByTable = (eta, order) => ({ noise, sampling }) => {
  let previous = null;
  return async (x, x0, s, t) => {
    const weight = order === 2 && previous ? (t - s) / (2 * (s - previous.s)) : 0, before = previous?.x0 ?? x0;
    const extrapolated = x0.map((value, k) => value + (value - before[k]) * weight);
    previous = { s, x0 };
    return step(x, extrapolated, s, t, eta, eta ? noise() : null, sampling.variance);
  };
};

const stepByHeun = ({ estimate }) => async (x, x0, s, t) => {
  const next = (await estimate(step(x, x0, s, t), t)).x0;
  return step(x, x0.map((value, k) => (value + next[k]) / 2), s, t);
};

const stepBySde = (corrects) => ({ estimate, noise, sampling }) => async (x, x0, s, t) => {
  const moved = sdeStep(x, x0, s, t, noise());
  if (!corrects) return moved;
  return langevinStep(moved, (await estimate(moved, t)).x0, t, sampling.corrector_snr, noise());
};

export const SAMPLERS = {
  "ddpm": stepByTable(1, 1),
  "ddim": stepByTable(0, 1),
  "dpm++2m": stepByTable(0, 2),
  "sde-dpm++2m": stepByTable(1, 2),
  "heun": stepByHeun,
  "euler-maruyama": stepBySde(false),
  "pc": stepBySde(true),
};

// Yield every state of the reverse process (diffusion/reverse_process.py): {index, total, logSnr, x, x0, eps, guidance, nfe, guided}.
export async function* walk(denoise, x, logSnrs, labels, sampling, { noise, clip }) {
  let nfe = 0, guided = 0;
  async function estimate(x, logSnr) {
    nfe += 1;
    const { x0, direction } = await denoise(x, logSnr, labels);
    guided += direction !== null;
    if (!x0.every(Number.isFinite)) {  // before clamping, which would turn an infinity into a plausible pixel
      throw new RangeError(`network call ${nfe} gave numbers that are not finite: the settings are too extreme`);
    }
    return { x0: clip ? x0.map((value) => clamp(value, -1, 1)) : x0, direction };
  }
  const advance = oneOf("sampler", sampling.sampler, SAMPLERS)({ estimate, noise, sampling }), total = logSnrs.length;
  for (const [index, s] of logSnrs.entries()) {
    const { x0, direction } = await estimate(x, s);
    yield { index, total, logSnr: s, x, x0, eps: impliedNoise(x, x0, s), guidance: direction, nfe, guided };
    if (index + 1 < total) x = await advance(x, x0, s, logSnrs[index + 1]);
  }
}

// The codec of patches (models/codec.py): patch x patch pixels are moved into channels.

// Return, for every value of an encoded image, the position of its pixel in the image.
function pixelOrder({ channels, image_size: size, patch }) {
  const side = size / patch;
  return range(channels * size * size, (k) => {
    const channel = Math.floor(k / (size * size)), inside = Math.floor(k / (side * side)) % patch ** 2;
    const y = Math.floor(k / side) % side * patch + Math.floor(inside / patch), x = k % side * patch + inside % patch;
    return (channel * size + y) * size + x;
  });
}

export function encode(model, images) {
  const order = pixelOrder(model);
  return images.map((_, k) => images[k - k % order.length + order[k % order.length]]);
}

export function decode(model, x) {
  const order = pixelOrder(model), images = new x.constructor(x.length);
  x.forEach((value, k) => images[k - k % order.length + order[k % order.length]] = value);
  return images;
}

// Where sampling begins (generation/begin.py): {kind, ...} gives the first state and the guided denoiser. An ``image`` is
// one image or one for each sample. ``keep`` is (H, W), 1 where the pixel of the image is kept and 0 elsewhere. ``seeds``
// are those of four corners; ``places`` holds one [u, v] for each sample, or one for all.

const BEGIN = {
  PureNoise: (model, begin, noise, logSnr, guided) => [noise, guided],
  MixedNoise: (model, { seeds, places }, noise, logSnr, guided) => {
    const size = model.channels * model.image_size ** 2, corners = seeds.map((seed) => randn(size, new Generator(seed)));
    const mixed = places.map(([u, v]) => {
      const roots = [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v].map(Math.sqrt);
      return corners[0].map((_, k) => roots.reduce((sum, root, corner) => sum + root * corners[corner][k], 0));
    });
    return [noise.map((_, k) => mixed[Math.floor(k / size) % mixed.length][k % size]), guided];
  },
  NoisedImage: (model, { image }, noise, logSnr, guided) => [addNoise(encode(model, image), logSnr, noise), guided],
  Completion: (model, { image, keep, start = null }, noise, logSnr, guided) => {
    const shown = start === null ? image.map((value, k) => keep[k % keep.length] ? value : 0) : image;
    const known = encode(model, shown), mask = new Uint8Array(model.channels * keep.length).map((_, k) => keep[k % keep.length]);
    return [addNoise(known, logSnr, noise), keepKnown(guided, known, encode(model, mask))];
  },
};

// Generation (generation/generate.py)

export function logSnrGrid(model, sampling, start = null) {
  return Schedule.named(sampling.schedule).grid(sampling.steps, model.range, start);
}

// Return a function that draws the next noise (N, C, H, W). Each image has its own generator and seed.
export function noiseSource(seeds, size) {
  const generators = seeds.map((seed) => new Generator(seed));
  return () => {
    const noise = new Float32Array(seeds.length * size);
    generators.forEach((generator, k) => noise.set(randn(size, generator), k * size));
    return noise;
  };
}

function addGuidance(model, labels, sampling, denoise) {
  if (!labels && (sampling.weight || model.distilled)) {
    throw new RangeError("labels are missing; guidance and distilled models need them");
  }
  if (model.distilled) return condition(denoise, model, sampling);
  return labels ? classifierFree(denoise, sampling.weight, model.label_names.length, sampling.interval) : denoise;
}

// Yield every step as images: {index, total, logSnr, timestep, x, x0, eps, guidance, nfe, guided}, where the last x0 is the sample.
// ``labels`` are N class numbers; null means ``count`` images without a label. ``sampling`` holds the fields of Sampling.
export async function* sample(model, network, { labels = null, count = 1, begin = { kind: "PureNoise" }, sampling }) {
  const nullLabel = model.label_names.length, chosen = labels ?? range(count, () => nullLabel);
  const denoise = makeDenoiser(network, trainedSchedule(model), model.prediction);
  const guided = addGuidance(model, labels, sampling, denoise);
  const noise = noiseSource(chosen.map((_, k) => sampling.seed + k), model.channels * model.image_size ** 2);
  const grid = logSnrGrid(model, sampling, begin.start), schedule = Schedule.named(sampling.schedule);
  const [x, prepared] = oneOf("begin", begin.kind, BEGIN)(model, begin, noise(), grid[0], guided);
  for await (const state of walk(prepared, x, grid, chosen, sampling, { noise, clip: model.bounded })) {
    const images = ["x", "x0", "eps", "guidance"].map((name) => [name, state[name] && decode(model, state[name])]);
    yield { ...state, ...Object.fromEntries(images), timestep: schedule.timestep(state.logSnr) };
  }
}

// Zero-shot classification (generation/zero_shot.py)

const EASIEST = 4, HARDEST = -4;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// Classify an image (C, H, W). Yield a reading after each ``batch`` of noise draws:
// {draws, total, errors, excess, spread}, where a spread is NaN after a single draw.
export async function* classify(model, network, { image, draws = 32, seed = 0, batch = 4 }) {
  if (!model.label_names.length) throw new RangeError("this model was trained without classes, so it cannot classify an image");
  if (model.distilled) throw new RangeError("classification needs a model that was not distilled: choose another checkpoint");
  const generator = new Generator(seed), denoise = makeDenoiser(network, trainedSchedule(model), model.prediction);
  const width = (EASIEST - HARDEST) / draws, ordered = range(draws, (k) => HARDEST + k * width + generator.uniformDouble() * width);
  const levels = randperm(draws, generator).map((k) => ordered[k]), labels = range(model.label_names.length, (k) => k);
  const x0 = encode(model, image), size = x0.length, errorsByDraw = [];
  for (let first = 0; first < draws; first += batch) {
    const now = levels.slice(first, first + batch), noise = randn(size * now.length, generator);
    for (const [k, logSnr] of now.entries()) {
      const x = addNoise(x0, logSnr, noise.subarray(k * size, (k + 1) * size)), all = new Float32Array(size * labels.length);
      labels.forEach((label) => all.set(x, label * size));
      const estimate = (await denoise(all, logSnr, labels)).x0;
      errorsByDraw.push(labels.map((label) => {
        const own = estimate.subarray(label * size, (label + 1) * size);
        return Math.exp(logSnr) * mean(own.map((value, pixel) => (value - x0[pixel]) ** 2));
      }));
    }
    yield summarise(errorsByDraw, labels, draws);
  }
}

function summarise(errorsByDraw, labels, total) {
  const errors = labels.map((label) => mean(errorsByDraw.map((row) => row[label]))), best = errors.indexOf(Math.min(...errors));
  const excess = labels.map((label) => errors[label] - errors[best]), draws = errorsByDraw.length;
  const spread = labels.map((label) => {
    const squares = errorsByDraw.map((row) => (row[label] - row[best] - excess[label]) ** 2);
    return Math.sqrt(mean(squares) * draws / (draws - 1) / draws);
  });
  return { draws, total, errors, excess, spread };
}
