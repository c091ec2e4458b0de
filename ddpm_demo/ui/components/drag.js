// Dragging in the chart that has data-low moves z_t: at most about eleven times a second, and always at the end.
let pressed = false, sent = 0;
function send(event) {
  const chart = element.querySelector("svg[data-low]"), box = chart.getBoundingClientRect();
  const low = +chart.dataset.low, high = +chart.dataset.high, left = +chart.dataset.left, right = +chart.dataset.right;
  const share = ((event.clientX - box.left) / box.width * chart.dataset.width - left) / (right - left);
  sent = performance.now();
  trigger("drag", { z: Math.min(high, Math.max(low, low + share * (high - low))) });
}
element.addEventListener("pointerdown", (event) => {
  if (event.button || !event.target.closest("svg[data-low]")) return;
  pressed = true; event.preventDefault(); send(event);
});
window.addEventListener("pointermove", (event) => { if (pressed && performance.now() - sent > 90) send(event); });
window.addEventListener("pointercancel", () => { pressed = false; });
window.addEventListener("pointerup", (event) => { if (pressed) { pressed = false; send(event); } });
