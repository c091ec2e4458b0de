// The tab "Why small steps?": a one-dimensional process whose densities are known (ui/tabs/small_steps_tab.py).
import { axis, COLOURS, drawLines, drawPaths } from "../charts.js";
import * as drag from "../components/drag.js";
import { make, number, slider } from "../controls.js";
import { Schedule } from "../diffusion.js";
import { mount } from "../host.js";
import { forwardPaths, reversePaths, reverseStep } from "../mixture.js";
import { checkNumber } from "../settings.js";

const HINT = `A network that predicts a Gaussian can reverse a step of noise only if the true reverse step is nearly Gaussian. Here
the data are one-dimensional, so the true step is known. Make β small, then large, and drag zₜ (in the left picture too) between
two peaks: when does a single Gaussian stop being accurate?`;
const PATHS_HINT = `The same process as paths. Forward, the SDE adds noise to every point until the density is Gaussian. Backward,
with the exact score, the reverse SDE is random and the probability-flow ODE is deterministic. Both end in the same density if the
steps are small. Lower the number of steps: which one fails first?`;
const MOST_POINTS = 150;  // of a path that is drawn

export function build(room, { demo }) {
  const { mixture, reach, paths, verdicts } = demo.small_steps, last = demo.settings.find(({ name }) => name === "seed").highest;
  const power = slider("Size of the step, log₁₀ β", -3, -0.1, 0.05, -1, "-3: as small as DDPM's, -0.3: half noise");
  const z = slider("zₜ", -reach, reach, 0.01, 0.45, "the noisy value to reverse");
  const steps = slider("Steps", 2, 300, 1, 200), seed = number("Seed", 0, last, 0);
  const step = make("div", { class: "drag" }), tracks = make("div", { class: "charts" });
  let newest = 0;
  room.append(make("p", { class: "hint" }, HINT), make("div", { class: "columns even" }, power.node, z.node), step,
    make("p", { class: "hint" }, PATHS_HINT), make("div", { class: "columns even" }, steps.node, seed.node), tracks);
  mount(drag, step, { on: { drag: ({ z: value }) => { z.value = value.toFixed(2); drawStep(); } } });

  function drawStep() {
    try {
      checkNumber("log₁₀ β", power.value, -3, -0.1);
      checkNumber("zₜ", z.value, -reach, reach);
    } catch (error) {
      step.replaceChildren(make("p", { class: "wrong", role: "alert" }, error.message));
      return;
    }
    const beta = 10 ** power.value, found = reverseStep(mixture, beta, z.value, reach), { positions, prior, marginal, exact, gap } = found;
    const verdict = verdicts.find(([least]) => gap >= least)[1], x = axis(-reach, reach, "z"), highest = Math.max(...exact, ...found.gaussian);
    const before = drawLines("Before and after one step of noise", { "q(zₜ₋₁)": [positions, prior], "q(zₜ)": [positions, marginal] },
      x, axis(0, Math.max(...prior) * 1.3), { mark: z.value, filled: true, drag: true });
    const after = drawLines("Where did zₜ come from?", { "exact q(zₜ₋₁ | zₜ)": [positions, exact], "Gaussian": [positions, found.gaussian] },
      x, axis(0, highest * 1.3), { filled: true, colours: [COLOURS[0], COLOURS[2]] });
    step.innerHTML = `<div class="charts">${before}${after}</div><p class="sentence" data-gap="${gap.toFixed(4)}">
      β = ${Number(beta.toPrecision(3))}, zₜ = ${z.value.toFixed(2)}: the exact density and the Gaussian differ by
      ${(100 * gap).toFixed(1)}% (total variation). So ${verdict}.</p>`;
  }

  async function drawWays() {
    const token = ++newest, schedule = Schedule.named("linear"), count = steps.value, start = seed.value;
    try {
      checkNumber("the number of steps", count, 2, 1000, true);
      checkNumber("seed", start, 0, last, true);
    } catch (error) {
      tracks.replaceChildren(make("p", { class: "wrong", role: "alert" }, error.message));
      return;
    }
    const ways = [["Forward SDE", forwardPaths(mixture, schedule, count, paths, start), "image → noise"]];
    for (const [title, sampler] of [["Reverse SDE (Euler-Maruyama)", "euler-maruyama"], ["Probability-flow ODE (Heun)", "heun"]]) {
      ways.push([title, await reversePaths(mixture, schedule, count, paths, { sampler }, start), "noise → image"]);
    }
    if (token !== newest) return;
    tracks.innerHTML = ways.map(([title, path, label], way) => {
      const clean = path[way ? path.length - 1 : 0], thin = path.filter((_, k) => k % Math.max(1, Math.floor(path.length / MOST_POINTS)) === 0);
      const nearest = [...clean].map((end) => {
        const distances = mixture.centres.map((centre) => Math.abs(centre - end));
        return COLOURS[distances.indexOf(Math.min(...distances))];
      });
      return drawPaths(title, nearest.map((_, k) => thin.map((values) => values[k])), axis(0, count, label), axis(-3, 3), nearest);
    }).join("");
  }

  for (const control of [power, z]) control.node.addEventListener("input", drawStep);
  for (const control of [steps, seed]) control.node.addEventListener("input", drawWays);
  drawStep();
  drawWays();
}
