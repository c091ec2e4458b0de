// A grid whose cells arrive one after another; a click on a cell opens its run. See compare_tab.py for its value.
const $ = (selector) => element.querySelector(selector);
let built = "", filled = 0;

function data() {
  try { return typeof props.value === "string" ? JSON.parse(props.value || "null") : props.value; } catch { return null; }
}

function make(tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function build(grid) {
  const head = make("tr");
  head.append(make("th", grid.axes[0] + " ↓  " + grid.axes[1] + " →", "corner"), ...grid.columns.map((name) => make("th", name)));
  const rows = grid.rows.map((name, r) => {
    const row = make("tr");
    row.append(make("th", name, "row"), ...grid.columns.map((_, c) => {
      const cell = make("td");
      cell.dataset.cell = r + "," + c;
      cell.append(make("div", undefined, "empty"));
      return cell;
    }));
    return row;
  });
  $("table").replaceChildren(head, ...rows);
  built = grid.run; filled = 0;
}

function take() {
  const grid = data();
  if (!grid || !grid.rows) return;
  if (grid.run !== built) build(grid);
  for (; filled < grid.cells.length; filled++) {
    const { row, column, image, label } = grid.cells[filled], button = make("button"), picture = make("img");
    button.type = "button"; button.title = label; button.setAttribute("aria-label", "Open in the player: " + label);
    picture.src = image; picture.alt = "";
    button.append(picture);
    button.addEventListener("click", () => {
      element.querySelectorAll("td button.open").forEach((other) => other.classList.remove("open"));
      button.classList.add("open");
      trigger("open", { row, column });
    });
    element.querySelector(`[data-cell="${row},${column}"]`).replaceChildren(button);
  }
  $(".progress").textContent = grid.progress;
  $(".download").hidden = !grid.done;
  element.dataset.cells = filled; element.dataset.done = grid.done;
}

$(".download").addEventListener("click", () => {
  const grid = data(), images = [...element.querySelectorAll("td img")];
  const size = images[0].naturalWidth, scale = Math.max(1, Math.round(112 / size)), tile = size * scale + 6, left = 150, top = 34;
  const sheet = document.createElement("canvas"), pen = sheet.getContext("2d");
  sheet.width = left + grid.columns.length * tile; sheet.height = top + grid.rows.length * tile;
  pen.fillStyle = "#fff"; pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.imageSmoothingEnabled = false; pen.fillStyle = "#222"; pen.font = "14px system-ui, sans-serif"; pen.textBaseline = "middle";
  pen.textAlign = "center"; grid.columns.forEach((name, c) => pen.fillText(name, left + (c + 0.5) * tile - 3, top / 2, tile));
  pen.textAlign = "right"; grid.rows.forEach((name, r) => pen.fillText(name, left - 10, top + (r + 0.5) * tile - 3, left - 14));
  element.querySelectorAll("td").forEach((cell) => {
    const [r, c] = cell.dataset.cell.split(",").map(Number), image = cell.querySelector("img");
    if (image) pen.drawImage(image, left + c * tile, top + r * tile, size * scale, size * scale);
  });
  const link = document.createElement("a");
  link.href = sheet.toDataURL("image/png"); link.download = "diffusion-" + grid.axes.join("-") + ".png";
  document.body.append(link); link.click(); link.remove();
});

watch("value", take);
take();
