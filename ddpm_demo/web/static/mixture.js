// The exact case: a one-dimensional mixture of Gaussians (diffusion/mixture.py). ``mixture`` is {shares, centres, widths}.
import { alphaSigma, walk } from "./diffusion.js";
import { Generator, multinomial, randn } from "./random.js";

const gaussian = (x, mean, variance) => Math.exp(-((x - mean) ** 2) / (2 * variance)) / Math.sqrt(2 * Math.PI * variance);
const sum = (values) => values.reduce((total, value) => total + value, 0);

export function density({ shares, centres, widths }, x, logSnr = Infinity) {
  const [alpha, sigma] = alphaSigma(logSnr);
  return sum(shares.map((share, k) => share * gaussian(x, alpha * centres[k], (alpha * widths[k]) ** 2 + sigma ** 2)));
}

export const denoiseMixture = ({ shares, centres, widths }) => async (x, logSnr) => {
  const [alpha, sigma] = alphaSigma(logSnr), variances = widths.map((width) => (alpha * width) ** 2 + sigma ** 2);
  const x0 = x.map((value) => {
    const logits = shares.map((share, k) => {
      return Math.log(share) - Math.log(variances[k]) / 2 - (value - alpha * centres[k]) ** 2 / (2 * variances[k]);
    });
    const highest = Math.max(...logits), weights = logits.map((logit) => Math.exp(logit - highest)), total = sum(weights);
    return sum(weights.map((weight, k) => {
      return weight / total * (centres[k] + alpha * widths[k] ** 2 / variances[k] * (value - alpha * centres[k]));
    }));
  });
  return { x0, direction: null };
};

// Return one reverse step on a grid: {positions, prior, marginal, exact, gaussian, gap}.
export function reverseStep(mixture, beta, z, reach, points = 801) {
  const width = 2 * reach / (points - 1), positions = Array.from({ length: points }, (_, k) => -reach + k * width);
  const prior = positions.map((x) => density(mixture, x));
  const joint = positions.map((x, k) => prior[k] * Math.exp(-((z - Math.sqrt(1 - beta) * x) ** 2) / (2 * beta)) + 1e-300);
  const total = sum(joint) * width, exact = joint.map((value) => value / total);
  const mean = sum(exact.map((value, k) => value * positions[k])) * width;
  const variance = sum(exact.map((value, k) => value * (positions[k] - mean) ** 2)) * width;
  const approximate = positions.map((x) => gaussian(x, mean, variance));
  const marginal = positions.map((x) => density(mixture, x, Math.log((1 - beta) / beta)));
  const gap = sum(exact.map((value, k) => Math.abs(value - approximate[k]))) * width / 2;
  return { positions, prior, marginal, exact, gaussian: approximate, gap };
}

function draw({ shares, centres, widths }, count, generator) {
  const part = multinomial(shares, count, generator);
  return randn(count, generator, Float64Array).map((value, k) => centres[part[k]] + widths[part[k]] * value);
}

// Return paths, one Float64Array of ``count`` values for each step, clean first.
export function forwardPaths(mixture, schedule, steps, count, seed = 0) {
  const generator = new Generator(seed);
  let x = draw(mixture, count, generator), previous = 1;
  return [x, ...schedule.grid(steps).reverse().map((logSnr) => {
    const [alpha] = alphaSigma(logSnr), ratio = alpha / previous, noise = randn(count, generator, Float64Array);
    previous = alpha;
    return x = x.map((value, k) => ratio * value + Math.sqrt(1 - ratio ** 2) * noise[k]);
  })];
}

// Return the paths of a sampler with the exact score, noise first.
export async function reversePaths(mixture, schedule, steps, count, sampling, seed = 0) {
  const generator = new Generator(seed), noise = () => randn(count, generator, Float64Array), path = [];
  let last = null;
  for await (last of walk(denoiseMixture(mixture), noise(), schedule.grid(steps), null, sampling, { noise, clip: false })) path.push(last.x);
  return [...path, last.x0];
}
