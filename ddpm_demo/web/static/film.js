// Makes films for the player while their steps are computed (ui/components/player.py, which describes the format).
import { logSnrGrid } from "./diffusion.js";
import { colourSigned, encodePictures, renderGrid, scaleNoisy } from "./images.js";

const GAP = 1;  // pixels between the images of a grid
let runs = 0;

// Compute a run of ``prepare``, and yield the growing film whenever a chunk is complete. The last film is ``done``, unless
// the run was ended. ``still`` opens the player on the last frame.
export async function* film(context, run, lane, still = false) {
  const { demo, engine } = context, { model, sampling } = run;
  let growing = { ...beginFilm(demo, run), still }, waiting = [], kept = null, sent = performance.now();
  for await (const { step, seconds } of engine.ask("sample", lane, run.request)) {
    const last = step.index + 1 === step.total;
    kept ??= spreadEvenly(step.total, Math.max(12, Math.min(demo.film.frames, Math.floor(600 / run.images))));
    run.pace = seconds / (step.index + 1);
    if (!kept.has(step.index)) continue;
    waiting.push({ step, frame: describeFrame(step, seconds) });
    if (!last && step.index && performance.now() - sent < 1000 * demo.film.chunk_seconds) continue;
    const { chunk, size } = makeChunk(waiting, growing.panels.map((panel) => panel.key), model, run.columns);
    growing = { ...growing, ...size, count: kept.size, done: last, chunks: [...growing.chunks, chunk] };
    [waiting, sent] = [[], performance.now()];
    yield growing;
  }
}

// Return the last film of a run, or null if the run was ended.
export async function finish(films) {
  let whole = null;
  for await (const growing of films) whole = growing;
  return whole?.done ? whole : null;
}

export const newName = () => `${Date.now().toString(16)}-${++runs}`;

function beginFilm(demo, run) {
  const { title, source } = demo.samplers[run.sampling.sampler];
  const curve = logSnrGrid(run.model, run.sampling, run.request.begin?.start);
  return {
    run: newName(), settings: run.settings, source: `${title} (${source})`,
    link: "?" + new URLSearchParams(Object.entries(run.settings).filter(([, value]) => value !== "")), curve: curve.map((value, step) => [step, value]),
    names: run.names, columns: run.columns, gap: GAP,
    panels: demo.panels.filter(({ key }) => key !== "guidance" || run.guided), chunks: [], done: false,
  };
}

export function spreadEvenly(total, most) {
  const count = Math.min(total, most);
  return new Set(Array.from({ length: count }, (_, k) => count < total ? Math.round(k * (total - 1) / (most - 1)) : k));
}

// A guided call estimates twice, with and without class.
function describeCalls({ nfe, guided }) {
  if (!guided) return `${nfe}`;
  return `${guided < nfe ? `${nfe - guided} + ` : ""}${guided} × 2 (with, without class)`;
}

function describeFrame(step, seconds) {
  return {
    step: step.index, log_snr: step.logSnr, guidance: step.guidance ? rootMeanSquare(step.guidance) : 0,
    numbers: {
      "step": `${step.index + 1} of ${step.total}`, "t": step.timestep.toFixed(),
      "log-SNR": (step.logSnr < 0 ? "" : "+") + step.logSnr.toFixed(2), "computing": `${seconds.toFixed(2)} s`,
      "network calls": describeCalls(step),
    },
  };
}

const rootMeanSquare = (values) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);

const PANELS = {  // what a panel shows of a step: images and their number of channels
  x: (step, { channels }) => [scaleNoisy(step.x, step.logSnr), channels],
  x0: (step, { channels }) => [step.x0, channels],
  eps: (step, { channels }) => [step.eps.map((value) => value / 3), channels],  // three standard deviations
  guidance: (step, { channels, image_size: size }) => [step.guidance && colourSigned(step.guidance, channels, size), 3],
};

function makeChunk(timed, panels, model, columns) {
  const sprites = {};
  let size = null;
  for (const key of panels) {
    const pictures = timed.map(({ step }) => {
      const [images, channels] = PANELS[key](step, model);
      return images && renderGrid(images, channels, model.image_size, columns, GAP);
    });
    const known = pictures.find((picture) => picture);
    if (!known) continue;
    size ??= { width: known.width, height: known.height };
    sprites[key] = encodePictures(pictures);
  }
  return { chunk: { frames: timed.map(({ frame }) => frame), sprites }, size };
}
