// Small charts as SVG (ui/components/charts.py). They follow the light or dark theme of the page.

const WIDTH = 360, HEIGHT = 210, LEFT = 46, RIGHT = 10, TOP = 26, BASE = HEIGHT - 34, END = WIDTH - RIGHT;
export const COLOURS = [1, 2, 3, 4, 5, 6].map((k) => `var(--chart-${k})`);
const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
export const escape = (text) => String(text).replace(/[&<>"]/g, (sign) => ESCAPES[sign]);

export const axis = (low, high, label = "", log = false) => ({ low, high, label, log });

export function fitAxis(values, label = "", log = false) {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low) * 0.05 || 0.5;
  return log ? axis(low / 1.15, high * 1.15, label, true) : axis(low - room, high + room, label);
}

function share({ low, high, log }, value) {
  const scale = log ? (number) => Math.log10(Math.max(number, 1e-300)) : (number) => number;
  return Math.min(1.02, Math.max(-0.02, (scale(value) - scale(low)) / (scale(high) - scale(low) || 1)));
}

const placeX = (x, value) => (LEFT + (END - LEFT) * share(x, value)).toFixed(1);
const placeY = (y, value) => (BASE - (BASE - TOP) * share(y, value)).toFixed(1);
const between = (first, last) => Array.from({ length: Math.max(0, last - first + 1) }, (_, k) => first + k);

function ticks({ low, high, log }) {
  if (log) return between(Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))).map((power) => 10 ** power);
  const rough = (high - low) / 5 || 1, size = 10 ** Math.floor(Math.log10(rough));
  const stride = [1, 2, 5, 10].map((k) => k * size).find((value) => value >= rough * 0.999);
  return between(Math.ceil(low / stride - 1e-9), Math.floor(high / stride + 1e-9)).map((k) => k * stride);
}

function format(value) {
  const small = value !== 0 && Math.abs(value) < 0.001;
  return small ? value.toExponential(0) : String(Number(value.toPrecision(4)));
}

function drawFrame(title, x, y, content, attributes = {}) {
  const data = Object.entries(attributes).map(([name, value]) => ` ${name}="${value}"`).join("");
  const rows = ticks(y).map((value) => [placeY(y, value), format(value)]), columns = ticks(x).map((value) => [placeX(x, value), format(value)]);
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escape(title)}"${data}>
    <text class="title" x="4" y="15">${escape(title)}</text>
    ${rows.map(([at, text]) => `<line class="axis" x1="${LEFT}" x2="${END}" y1="${at}" y2="${at}"/>
      <text x="${LEFT - 5}" y="${Number(at) + 3.5}" text-anchor="end">${text}</text>`).join("")}
    ${columns.map(([at, text]) => `<text x="${at}" y="${BASE + 13}" text-anchor="middle">${text}</text>`).join("")}
    <line class="axis" x1="${LEFT}" x2="${END}" y1="${BASE}" y2="${BASE}"/>
    <text x="${(LEFT + END) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${escape(x.label)}</text>${content}</svg>`;
}

// Draw named curves {name: [xs, ys]}, with a legend. ``mark`` is the x of a vertical line. With ``drag``, the chart says
// where its axis lies, for drag.js.
export function drawLines(title, series, x, y, { mark = null, filled = false, colours = COLOURS, drag = false } = {}) {
  const across = Object.keys(series).length === 4 ? 4 : 3;
  const curves = Object.entries(series).map(([name, [xs, ys]], k) => {
    const points = xs.map((value, n) => `${placeX(x, value)},${placeY(y, ys[n])}`), colour = colours[k % colours.length];
    const ends = [xs[0], xs[xs.length - 1]].map((value) => `${placeX(x, value)},${BASE}`);
    const legendX = LEFT + 6 + k % across * Math.floor(304 / across), legendY = TOP + 10 + Math.floor(k / across) * 12;
    return `${filled ? `<polygon points="${ends[0]} ${points.join(" ")} ${ends[1]}" fill="${colour}" opacity=".13"/>` : ""}
      <polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="1.8"/>
      <rect x="${legendX}" y="${legendY - 7}" width="9" height="3" fill="${colour}"/>
      <text x="${legendX + 12}" y="${legendY - 2}">${escape(name)}</text>`;
  });
  const line = mark === null ? "" : `<line class="mark" x1="${placeX(x, mark)}" x2="${placeX(x, mark)}" y1="${TOP}" y2="${BASE}"/>`;
  const place = { "data-low": x.low, "data-high": x.high, "data-left": LEFT, "data-right": END, "data-width": WIDTH };
  return drawFrame(title, x, y, curves.join("") + line, drag ? place : {});
}

// Draw many thin curves over evenly spaced x, each in its own colour.
export function drawPaths(title, tracks, x, y, colours) {
  return drawFrame(title, x, y, tracks.map((track, k) => {
    const points = track.map((value, n) => `${placeX(x, x.low + (x.high - x.low) * n / (track.length - 1))},${placeY(y, value)}`);
    return `<polyline points="${points.join(" ")}" fill="none" stroke="${colours[k]}" stroke-width=".8" opacity=".55"/>`;
  }).join(""));
}

// Draw horizontal bars, each {name, length 0 .. 1, spread, text}, with the best one in colour.
export function drawBars(title, bars, best) {
  const width = 190, start = 52, height = TOP + 20 * bars.length + 6;
  const rows = bars.map(({ name, length, spread, text }, k) => {
    const y = TOP + 20 * k, end = start + width * length, own = name === best;
    const low = Math.max(start, end - width * spread), high = Math.min(start + width * 1.15, end + width * spread);
    const whisker = spread > 0 ? `<line x1="${low}" x2="${high}" y1="${y + 7}" y2="${y + 7}" stroke="var(--body-text-color)"/>` : "";
    return `<text x="${start - 6}" y="${y + 11}" text-anchor="end">${escape(name)}</text>
      <rect x="${start}" y="${y}" width="${Math.max(1, end - start)}" height="14" rx="2" opacity="${own ? 1 : 0.45}"
        fill="${own ? COLOURS[0] : "var(--body-text-color-subdued)"}"/>${whisker}
      <text x="${start + width * 1.15 + 6}" y="${y + 11}">${escape(text)}</text>`;
  });
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escape(title)}">
    <text class="title" x="4" y="15">${escape(title)}</text>${rows.join("")}</svg>`;
}
