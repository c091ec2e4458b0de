// The Forward process tab: the same image at timestep t under four schedules (ui/tabs/forward_tab.py).
import { axis, drawLines, fitAxis } from "../charts.js";
import * as pad from "../components/pad.js";
import { button, make, number, radio, slider } from "../controls.js";
import { addNoise, noiseSource, Schedule } from "../diffusion.js";
import { compareWithClosedForm, computeCorrelation } from "../forward_process.js";
import { mount } from "../host.js";
import { encodePictures, readPicture, readPixels, renderGrid, scaleNoisy } from "../images.js";

const HINT = `Training does not add noise step by step: it jumps to any t, since q(xₜ | x₀) = N(√ᾱₜ x₀, (1 − ᾱₜ) I) is known in
closed form. Move t and see which schedule destroys the image first; then draw your own image.`;
const WALK = `One jump, or many steps. The closed form and the chain of single steps x ← √(1−β) x + √β z must lead to the same distribution.
Here both are applied 2,000 times to one bright pixel.`;

export async function build(room, { demo, models, examples }, checkpoint) {
  const model = models[checkpoint], { channels, image_size: size } = model, last = demo.forward.last_timestep;
  const seeds = demo.settings.find(({ name }) => name === "seed");
  const schedules = Object.fromEntries(demo.schedules.map((name) => [name, Schedule.named(name)]));
  const t = slider("Timestep t", 0, last, 1, 300, `0: the image, ${last}: the end`), seed = number("Seed", 0, seeds.highest, 0, "of the noise");
  const sheet = make("div"), cards = make("div", { class: "cards" }), plots = make("div", { class: "charts" });
  const schedule = radio("Schedule of the chain", demo.schedules.map((name) => [name, name]), "cosine"), walked = make("div", { class: "charts" });
  const wrong = make("p", { class: "wrong", role: "alert" });
  room.append(make("p", { class: "hint" }, HINT), make("div", { class: "columns" }, sheet,
    make("div", {}, make("div", { class: "row" }, t.node, seed.node), wrong, cards)), plots,
    make("div", { class: "columns" }, make("div", {}, make("p", {}, WALK), schedule.node, button("Repeat with new noise", walk)), walked));

  const example = await examples(checkpoint);
  let { ink } = example;
  mount(pad, sheet, { value: example, on: { input: (_, value) => { ink = value.ink; redraw(); } } });

  function check() {
    const right = Number.isInteger(t.value) && t.value >= 0 && t.value <= last && Number.isInteger(seed.value) && seed.value >= 0 && seed.value <= seeds.highest;
    wrong.textContent = right ? "" : `t must be a whole number from 0 to ${last}, and the seed a whole number from 0 to ${seeds.highest}.`;
    return right;
  }

  async function redraw() {
    if (!check()) return;
    plots.innerHTML = drawCurves(schedules, t.value, last);
    if (!ink) return;
    const now = t.value, { image } = readPixels(await readPicture(ink), channels), noise = noiseSource([seed.value], image.length)();
    const mean = image.reduce((sum, value) => sum + value, 0) / image.length;
    const variance = image.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (image.length - 1) || 1e-6;
    cards.replaceChildren(...Object.entries(schedules).map(([name, schedule]) => {
      const logSnr = schedule.logSnr(now), correlation = computeCorrelation(logSnr, variance);
      const noisy = renderGrid(scaleNoisy(addNoise(image, logSnr, noise), logSnr), channels, size, 1, 0);
      const left = demo.forward.left.find(([least]) => correlation >= least)[1];
      return make("figure", { "data-schedule": name }, make("img", { alt: `x_t under the ${name} schedule`, src: encodePictures([noisy]) }),
        make("figcaption", {}, make("b", {}, name), make("br"),
          `ᾱₜ = ${Number(schedule.alphaBars[now].toPrecision(3))}, log-SNR ${logSnr.toFixed(1)}`, make("br"),
          `At t = ${now}, ${left} (correlation ${correlation.toFixed(2)}).`));
    }));
  }

  function walk() {
    if (!check()) return;
    const found = compareWithClosedForm(1, schedules[schedule.value], t.value, { seed: Math.floor(Math.random() * 2 ** 31) });
    const { middles, closed, chained, expected, gap, critical } = found, highest = Math.max(...closed, ...chained, ...expected);
    const series = { "closed form": [middles, closed], "chain": [middles, chained], "Gaussian": [middles, expected] };
    const chart = drawLines(`A pixel of value 1 at t = ${t.value}, ${schedule.value}`, series, fitAxis(middles, "value of the pixel"), axis(0, highest * 1.25));
    const agree = gap < critical ? "they agree" : "by chance they differ a little more than usual";
    walked.innerHTML = `${chart}<p class="sentence">${t.value + 1} single steps and one jump: the two sets of 2,000 values are
      ${gap.toFixed(3)} apart (Kolmogorov-Smirnov). Two sets of the same distribution stay below ${critical.toFixed(3)} in 95 of 100
      cases, so ${agree}.</p>`;
  }

  for (const control of [t, seed]) control.node.addEventListener("input", redraw);
  t.node.addEventListener("change", walk);
  schedule.node.addEventListener("input", walk);
  redraw();
  walk();
}

function drawCurves(schedules, t, last) {
  const ts = Array.from({ length: Math.floor(last / 9) + 1 }, (_, k) => 9 * k), time = axis(0, last, "t");
  const plot = (title, values, y) => drawLines(title,
    Object.fromEntries(Object.entries(schedules).map(([name, schedule]) => [name, [ts, ts.map((k) => schedule[values][k])]])), time, y, { mark: t });
  return plot("ᾱₜ, the share of the image's power", "alphaBars", axis(0, 1.18))
    + plot("βₜ, the noise of one step", "betas", fitAxis([1e-5, 3], "", true)) + plot("log-SNR", "logSnrs", axis(-21, 17));
}
