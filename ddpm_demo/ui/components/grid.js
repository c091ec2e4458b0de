// A grid whose cells arrive one after another, and two of its runs, A and B, under a line that wipes between them.
// A click on a cell compares it with the top of its column, and opens its run. See compare_tab.py for its value.
const $ = (selector) => element.querySelector(selector), all = (selector) => [...element.querySelectorAll(selector)];
const wipe = $(".wipe"), picture = $(".picture"), line = $(".share"), moment = $(".moment"), runs = all(".run"), halves = all(".half");
let built = "", filled = 0;
let films = [];  // of A and B: the estimates of a cell, below each other; null while it is not here

function data() {
  try { return typeof props.value === "string" ? JSON.parse(props.value || "null") : props.value; } catch { return null; }
}

function make(tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function headOf(scope, text, kind) {
  const node = make("th", text, kind);
  node.scope = scope;
  return node;
}

function build(grid) {
  const head = make("tr");
  head.append(make("th", grid.axes[0] + " ↓  " + grid.axes[1] + " →", "corner"), ...grid.columns.map((name) => headOf("col", name)));
  const rows = grid.rows.map((name, r) => {
    const row = make("tr");
    row.append(headOf("row", name, "row"), ...grid.columns.map((_, c) => {
      const cell = make("td");
      cell.dataset.cell = r + "," + c;
      cell.append(make("div", undefined, "empty"));
      return cell;
    }));
    return row;
  });
  $("table").replaceChildren(head, ...rows);
  $("table").classList.toggle("wide", grid.columns.length > 6);  // so that the picture has room beside it
  built = grid.run; filled = 0;
  offerRuns(grid);
}

// The first choice is the top and the bottom of the last column, or the two ends of a single row.
function offerRuns(grid) {
  const [bottom, right] = [grid.rows.length - 1, grid.columns.length - 1], first = [[0, bottom ? right : 0], [bottom, right]];
  runs.forEach((run, side) => {
    run.replaceChildren(...grid.rows.flatMap((row, r) => grid.columns.map((column, c) => {
      const option = make("option", `${grid.axes[0]} ${row}, ${grid.axes[1]} ${column}`);
      option.value = r + "," + c;
      return option;
    })));
    run.value = first[side].join(",");
  });
  films = [null, null];
  wipe.hidden = true;  // until both are here
}

// The cell of the grid that is chosen as run A (side 0) or B (side 1).
function chosen(side) { return element.querySelector(`[data-cell="${runs[side].value}"]`); }

async function choose(grid) {
  const cells = runs.map((run) => grid.cells.find(({ row, column }) => row + "," + column === run.value)), wanted = runs.map((run) => run.value);
  all("td").forEach((cell) => { delete cell.dataset.side; });
  runs.forEach((_, side) => { const { dataset } = chosen(side); dataset.side = (dataset.side || "") + "AB"[side]; });
  if (!cells.every(Boolean)) return;
  const arrived = await Promise.all(cells.map(async ({ steps }) => {
    const film = new Image();
    film.src = steps;
    await film.decode();
    return film;
  }));
  if (grid.run !== built || runs.some((run, side) => run.value !== wanted[side])) return;  // another choice was made meanwhile
  films = arrived;
  const places = wanted.map((value) => value.split(",").map(Number)), values = [grid.rows, grid.columns];
  all(".name").forEach((name, side) => {
    const differing = grid.axes.filter((_, k) => places[0][k] !== places[1][k]);
    name.textContent = ["AB"[side], ...differing.map((axis) => axis + " " + values[grid.axes.indexOf(axis)][places[side][grid.axes.indexOf(axis)]])].join(" · ");
  });
  wipe.hidden = false;
  fit();
}

// In a column both runs have the same noise, if the noises differ between the columns.
function compare(row, column) {
  const grid = data(), last = grid.rows.length - 1, below = Number(runs[1].value.split(",")[0]) || last;
  if (last) runs[0].value = "0," + column;
  runs[1].value = (row || below) + "," + column;
  choose(grid);
}

// The pictures at the largest whole zoom that fits.
function fit() {
  if (!films[0] || !wipe.clientWidth) return;
  const ratio = devicePixelRatio || 1, size = Math.max(...films.map((film) => film.naturalWidth));
  const zoom = Math.max(1, Math.floor(Math.min(wipe.clientWidth, innerHeight * 0.62) * ratio / size)) / ratio;
  wipe.style.setProperty("--side", size * zoom + "px");
  draw();
}

// Both runs at the same share of their steps.
function draw() {
  if (!films[0]) return;
  films.forEach((film, side) => {
    const size = film.naturalWidth, last = film.naturalHeight / size - 1, canvas = halves[side];
    canvas.width = canvas.height = size;
    canvas.getContext("2d").drawImage(film, 0, Math.round(last * moment.value / 100) * size, size, size, 0, 0, size, size);
  });
  picture.style.setProperty("--share", line.value + "%");
  line.setAttribute("aria-valuetext", `${line.value} percent A, ${100 - line.value} percent B`);
  $("output").textContent = moment.value + "%";
}

line.addEventListener("input", draw);
moment.addEventListener("input", draw);
runs.forEach((run) => run.addEventListener("change", () => choose(data())));

// A press anywhere in the picture moves the line there, and a drag moves it on: a finger need not meet the handle.
function point(event) {
  const box = picture.getBoundingClientRect();
  line.value = 100 * (event.clientX - box.left) / box.width;
  draw();
}
picture.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  picture.setPointerCapture(event.pointerId);
  line.focus({ preventScroll: true });
  event.preventDefault();
  point(event);
});
picture.addEventListener("pointermove", (event) => { if (picture.hasPointerCapture(event.pointerId)) point(event); });

function take() {
  const grid = data();
  if (!grid || !grid.rows) return;
  if (grid.run !== built) build(grid);
  const before = filled;
  for (; filled < grid.cells.length; filled++) {
    const { row, column, image, label } = grid.cells[filled], button = make("button"), picture = make("img");
    button.type = "button"; button.title = label; button.setAttribute("aria-label", "Open in the player: " + label);
    picture.src = image; picture.alt = "";
    button.append(picture);
    button.addEventListener("click", () => {
      all("td button.open").forEach((other) => other.classList.remove("open"));
      button.classList.add("open");
      compare(row, column);
      trigger("open", { row, column });
    });
    element.querySelector(`[data-cell="${row},${column}"]`).replaceChildren(button);
  }
  if (filled > before && !films[0]) choose(grid);
  $(".progress").textContent = grid.progress;
  $(".download").hidden = !grid.done;
  element.dataset.cells = filled; element.dataset.done = grid.done;
}

$(".download").addEventListener("click", () => {
  const grid = data(), images = all("td img");
  const size = images[0].naturalWidth, scale = Math.max(1, Math.round(112 / size)), tile = size * scale + 6, left = 150, top = 34;
  const sheet = document.createElement("canvas"), pen = sheet.getContext("2d");
  sheet.width = left + grid.columns.length * tile; sheet.height = top + grid.rows.length * tile;
  pen.fillStyle = "#fff"; pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.imageSmoothingEnabled = false; pen.fillStyle = "#222"; pen.font = "14px system-ui, sans-serif"; pen.textBaseline = "middle";
  pen.textAlign = "center"; grid.columns.forEach((name, c) => pen.fillText(name, left + (c + 0.5) * tile - 3, top / 2, tile));
  pen.textAlign = "right"; grid.rows.forEach((name, r) => pen.fillText(name, left - 10, top + (r + 0.5) * tile - 3, left - 14));
  all("td").forEach((cell) => {
    const [r, c] = cell.dataset.cell.split(",").map(Number), image = cell.querySelector("img");
    if (image) pen.drawImage(image, left + c * tile, top + r * tile, size * scale, size * scale);
  });
  const link = document.createElement("a");
  link.href = sheet.toDataURL("image/png"); link.download = "diffusion-" + grid.axes.join("-") + ".png";
  document.body.append(link); link.click(); link.remove();
});

new ResizeObserver(fit).observe(wipe);
addEventListener("resize", fit);
watch("value", take);
take();
