// A sketch pad at the model's own resolution. Its value: {size, channels, examples, ink, mask}, pictures as PNG data URIs.
const $ = (selector) => element.querySelector(selector);
const sheet = $(".sheet"), view = sheet.getContext("2d");
const ink = document.createElement("canvas"), mask = document.createElement("canvas");
let tool = "draw", last = null, size = 0, known = "";

function data() {
  try { return typeof props.value === "string" ? JSON.parse(props.value || "null") : props.value; } catch { return null; }
}

function picture(uri) {
  return new Promise((done, fail) => { const image = new Image(); image.onload = () => done(image); image.onerror = fail; image.src = uri; });
}

function draw() {
  view.drawImage(ink, 0, 0);
  view.globalAlpha = 0.55; view.drawImage(mask, 0, 0); view.globalAlpha = 1;
}

function send() {
  known = ink.toDataURL("image/png");
  props.value = { ...data(), ink: known, mask: mask.toDataURL("image/png") };
  trigger("input");
}

// Draws a stroke: round, about two pixels wide on a 28-pixel sheet, with soft edges.
function stroke(from, to) {
  const target = tool === "mark" ? mask : ink, pen = target.getContext("2d");
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = size * (tool === "draw" ? 0.085 : 0.16);
  pen.strokeStyle = tool === "mark" ? "#ff9628" : tool === "erase" ? "#000" : data().channels === 1 ? "#fff" : $(".colour").value;
  pen.beginPath(); pen.moveTo(...from); pen.lineTo(to[0] + 0.01, to[1]); pen.stroke();
  if (tool === "erase") {
    const marks = mask.getContext("2d");
    marks.save(); marks.globalCompositeOperation = "destination-out"; marks.lineCap = "round"; marks.lineWidth = pen.lineWidth;
    marks.beginPath(); marks.moveTo(...from); marks.lineTo(to[0] + 0.01, to[1]); marks.stroke(); marks.restore();
  }
  draw();
}

function where(event) {
  const box = sheet.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * size, (event.clientY - box.top) / box.height * size];
}

sheet.addEventListener("pointerdown", (event) => {
  if (!size) return;
  sheet.setPointerCapture(event.pointerId); last = where(event); stroke(last, last); event.preventDefault();
});
sheet.addEventListener("pointermove", (event) => { if (last) { const to = where(event); stroke(last, to); last = to; } });
for (const end of ["pointerup", "pointercancel"]) sheet.addEventListener(end, () => { if (last) { last = null; send(); } });

function blank(target, colour) {
  const pen = target.getContext("2d");
  pen.clearRect(0, 0, size, size);
  if (colour) { pen.fillStyle = colour; pen.fillRect(0, 0, size, size); }
}

function show(image) {  // the middle square of any picture, at the model's size
  const side = Math.min(image.width, image.height);
  blank(ink, "#000"); blank(mask);
  ink.getContext("2d").drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, size, size);
  if (data().channels === 1) {
    const pen = ink.getContext("2d"), pixels = pen.getImageData(0, 0, size, size), p = pixels.data;
    for (let k = 0; k < p.length; k += 4) p[k] = p[k + 1] = p[k + 2] = 0.299 * p[k] + 0.587 * p[k + 1] + 0.114 * p[k + 2];
    pen.putImageData(pixels, 0, 0);
  }
  draw();
}

element.querySelectorAll("[data-tool]").forEach((button) => button.addEventListener("click", () => {
  tool = button.dataset.tool;
  element.querySelectorAll("[data-tool]").forEach((other) => {
    other.classList.toggle("on", other === button);
    other.setAttribute("aria-pressed", other === button);
  });
}));
$(".clear").addEventListener("click", () => { blank(ink, "#000"); blank(mask); draw(); send(); });
$(".file input").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file) return;
  if (file.size > 8 * 2 ** 20) { $(".note").textContent = "That file is larger than 8 MB. Choose a smaller picture."; return; }
  try { show(await createImageBitmap(file)); send(); $(".note").textContent = ""; }
  catch { $(".note").textContent = "This browser cannot read that file. Choose a PNG, JPEG, WebP, GIF or BMP."; }
});

let arriving = Promise.resolve();
async function take() {
  const value = data();
  if (!value) return;
  if (value.size !== size) {
    size = value.size;
    for (const canvas of [sheet, ink, mask]) { canvas.width = canvas.height = size; }
    blank(ink, "#000"); draw();
  }
  $(".colour").style.display = value.channels === 1 ? "none" : "";
  $("[data-tool=mark]").style.display = value.marks ? "" : "none";
  if (value.ink && value.ink !== known) { known = value.ink; show(await picture(value.ink)); }
  if (value.examples && element.dataset.row !== value.examples) {
    element.dataset.row = value.examples;
    const row = await picture(value.examples);
    $(".examples").replaceChildren(...Array.from({ length: row.width / size }, (_, k) => {
      const button = document.createElement("button"), small = document.createElement("canvas");
      button.type = "button"; button.setAttribute("aria-label", "Real image " + (value.names[k] ?? k + 1));
      small.width = small.height = size;
      small.getContext("2d").drawImage(row, k * size, 0, size, size, 0, 0, size, size);
      button.append(small);
      button.addEventListener("click", () => { show(small); send(); });
      return button;
    }));
  }
  element.dataset.ready = "true";
}
function arrived() { arriving = arriving.then(take).catch((error) => console.error("pad:", error)); }
watch("value", arrived);
arrived();
