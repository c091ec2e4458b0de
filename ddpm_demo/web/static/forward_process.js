// The forward process (diffusion/forward_process.py).
import { addNoise, alphaSigma } from "./diffusion.js";
import { Generator, randn } from "./random.js";

function addNoiseStepwise(x0, schedule, t, generator) {
  let x = x0;
  for (const beta of schedule.betas.slice(0, t + 1)) {
    const noise = randn(x.length, generator, Float64Array), kept = Math.sqrt(1 - beta), added = Math.sqrt(beta);
    x = x.map((value, k) => kept * value + added * noise[k]);
  }
  return x;
}

// Return histograms of one pixel at timestep t: {middles, closed, chained, expected, gap, critical}.
export function compareWithClosedForm(value, schedule, t, { draws = 2000, seed = 0, bins = 32 } = {}) {
  const generator = new Generator(seed), x0 = new Float64Array(draws).fill(value), logSnr = schedule.logSnr(t);
  const direct = addNoise(x0, logSnr, randn(draws, generator, Float64Array)), stepwise = addNoiseStepwise(x0, schedule, t, generator);
  const [alpha, sigma] = alphaSigma(logSnr), low = alpha * value - 4 * sigma, width = 8 * sigma / bins;
  const middles = Array.from({ length: bins }, (_, k) => low + (k + 0.5) * width);
  const [closed, chained] = [direct, stepwise].map((samples) => {
    const counts = middles.map(() => 0);
    samples.forEach((sample) => {
      const bin = Math.floor((sample - low) / width);
      if (bin in counts) counts[bin] += 1;
    });
    return counts.map((count) => count / (draws * width));
  });
  const expected = middles.map((x) => Math.exp(-((x - alpha * value) ** 2) / (2 * sigma ** 2)) / (sigma * Math.sqrt(2 * Math.PI)));
  return { middles, closed, chained, expected, gap: compareSamples(direct, stepwise), critical: 1.36 * Math.sqrt(2 / draws) };
}

// The Kolmogorov-Smirnov statistic of two samples of the same size.
function compareSamples(first, second) {
  const [a, b] = [first, second].map((samples) => samples.slice().sort());
  let i = 0, j = 0, gap = 0;
  while (i < a.length && j < b.length) {
    const x = Math.min(a[i], b[j]);
    while (a[i] <= x) i += 1;
    while (b[j] <= x) j += 1;
    gap = Math.max(gap, Math.abs(i - j) / a.length);
  }
  return gap;
}

export function computeCorrelation(logSnr, variance) {
  const [alpha, sigma] = alphaSigma(logSnr);
  return alpha * Math.sqrt(variance) / Math.sqrt(alpha ** 2 * variance + sigma ** 2);
}
