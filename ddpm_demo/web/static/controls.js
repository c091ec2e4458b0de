// Controls of the page. Each is {node, value} with a label; the node sends an "input" event when a user changes the value.

// Create an element with attributes and children. A property that is a function is a handler of that event.
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

let names = 0;
const newId = () => `control-${++names}`;

const describeLabel = (label, note = "") => [make("span", { class: "label" }, label), make("span", { class: "note" }, note)];

// Change the words beside the label of a control.
export function annotate({ node }, note) {
  node.querySelector(".note").textContent = note;
}

export function slider(label, lowest, highest, step, first, note = "") {
  const range = make("input", { type: "range", min: lowest, max: highest, step, value: first });
  const number = make("input", { type: "number", min: lowest, max: highest, step, value: first, "aria-label": label });
  const id = range.id = newId();
  range.addEventListener("input", () => { number.value = range.value; });
  number.addEventListener("input", () => { range.value = number.value; });
  const head = make("div", { class: "head" }, make("label", { for: id }, ...describeLabel(label, note)), number);
  return {
    node: make("div", { class: "field slider" }, head, range),
    get value() { return number.value === "" ? "" : Number(number.value); },
    set value(value) { range.value = number.value = value; },
    set step(step) { range.step = number.step = step; },
  };
}

export function number(label, lowest, highest, first, note = "") {
  const input = make("input", { type: "number", min: lowest, max: highest, step: 1, value: first });
  return {
    node: make("label", { class: "field" }, ...describeLabel(label, note), input),
    get value() { return input.value === "" ? "" : Number(input.value); },
    set value(value) { input.value = value; },
  };
}

export function text(label, first, note = "") {
  const input = make("input", { type: "text", value: first });
  return {
    node: make("label", { class: "field" }, ...describeLabel(label, note), input),
    get value() { return input.value; },
    set value(value) { input.value = value; },
  };
}

// ``choices`` are [value, text]. ``kind`` is "classes" for separate buttons, "segments" for one bar.
export function radio(label, choices, first, kind = "segments", note = "") {
  const group = newId(), wrap = make("div", { class: "wrap" });
  const inputs = () => [...wrap.querySelectorAll("input")];
  let values = [];
  const control = {
    node: make("fieldset", { class: `field ${kind}` }, make("legend", {}, ...describeLabel(label, note)), wrap),
    get value() { return values[inputs().findIndex((input) => input.checked)]; },
    set value(value) { inputs().forEach((input, k) => { input.checked = values[k] === value; }); },
    offer(choices, chosen) {
      values = choices.map(([value]) => value);
      wrap.replaceChildren(...choices.map(([, text]) => make("label", {},
        make("input", { type: "radio", name: group }), make("span", {}, String(text)))));
      control.value = chosen;
    },
  };
  control.offer(choices, first);
  return control;
}

export function dropdown(label, choices, first, note = "") {
  const select = make("select");
  const control = {
    node: make("label", { class: "field" }, ...describeLabel(label, note), select),
    get value() { return select.value; },
    set value(value) { select.value = value; },
    offer(choices, chosen) {
      select.replaceChildren(...choices.map(([value, text]) => make("option", { value }, text)));
      select.value = chosen;
    },
  };
  control.offer(choices, first);
  return control;
}

// Several of the values can be chosen.
export function checks(label, choices) {
  const wrap = make("div", { class: "wrap" });
  let values = [];
  return {
    node: make("fieldset", { class: "field classes" }, make("legend", {}, ...describeLabel(label)), wrap),
    get value() { return values.filter((_, k) => wrap.querySelectorAll("input")[k].checked); },
    offer(choices, chosen) {
      values = choices.map(([value]) => value);
      wrap.replaceChildren(...choices.map(([value, text]) => make("label", {},
        make("input", { type: "checkbox", checked: chosen.includes(value) }), make("span", {}, String(text)))));
    },
  };
}

export function checkbox(label, note = "") {
  const input = make("input", { type: "checkbox" });
  return {
    node: make("label", { class: "field check" }, input, ...describeLabel(label, note)),
    get value() { return input.checked; },
  };
}

export const button = (text, act, kind = "") => make("button", { type: "button", class: `button ${kind}`, click: act }, text);
