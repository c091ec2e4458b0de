// The Generate tab: a user chooses settings and watches noise become an image (ui/tabs/generate_tab.py, ui/live.py).
import { animate } from "../animation.js";
import * as player from "../components/player.js";
import { annotate, button, checkbox, dropdown, make, number, radio, slider, text } from "../controls.js";
import { film, finish } from "../film.js";
import { mount } from "../host.js";
import { ALL, applyPreset, noteEffects, prepare, readQuery, remarkOn } from "../settings.js";

const HINT = `Pick a class and press Generate, then drag the film strip below the picture to see every step. Next, switch Live on,
choose one class, and move the guidance weight.`;
const LAST_ROLLED = 9999;  // short seeds are easy to remember
const OFF = 0;  // the choice of the model that was not distilled
const SPACING = 0.05;  // of guidance weights
const VARIANCES = { posterior: "posterior β̃ₜ", beta: "forward βₜ" };

export const listClasses = (model) => model.label_names.map((name) => [name, name]);
const offerClasses = (model) => [...listClasses(model), [ALL, model.label_names.length ? `all ${model.label_names.length}` : "any"]];

// Create the controls, by the name of their setting.
function buildControls({ demo, models }) {
  const limits = Object.fromEntries(demo.settings.map((setting) => [setting.name, setting])), { defaults } = models[demo.checkpoints[0]];
  const { lowest, highest } = limits.interval, model = models[demo.checkpoints[0]];
  return {
    checkpoint: dropdown("Checkpoint", demo.checkpoints.map((name) => [name, name]), demo.checkpoints[0]),
    class_label: radio("Class", offerClasses(model), defaults.class_label, "classes"),
    weight: slider("Guidance weight w", -1, 8, SPACING, defaults.weight),
    steps: slider("Steps", limits.steps.lowest, limits.steps.highest, 1, defaults.steps),
    sampler: dropdown("Sampler", Object.entries(demo.samplers).map(([name, { title }]) => [name, title]), defaults.sampler),
    schedule: radio("Noise schedule", demo.schedules.map((name) => [name, name]), defaults.schedule),
    seed: number("Seed", 0, limits.seed.highest, defaults.seed),
    count: number("Images", 1, demo.most_images, defaults.count, "per class"),
    interval_from: slider("Guided from log-SNR", lowest, highest, 0.5, defaults.interval_from),
    interval_to: slider("Guided up to log-SNR", lowest, highest, 0.5, defaults.interval_to),
    variance: radio("Reverse variance", limits.variance.names.map((name) => [name, VARIANCES[name]]), defaults.variance),
    corrector_snr: slider("Corrector's signal-to-noise ratio", limits.corrector_snr.lowest, limits.corrector_snr.highest, 0.02,
      defaults.corrector_snr),
    place: text("Place in the noise pad", defaults.place, "if not empty, its noise replaces that of the seed"),
  };
}

export function build(room, context) {
  const { demo, models, engine, pairs } = context, controls = buildControls(context);
  const live = checkbox("Live"), instant = radio("Instant", [], OFF, "segments", "network calls of a distilled model");
  const preset = dropdown("Preset", [["", "choose settings to start from"], ...[demo.best, ...Object.keys(demo.presets)].map((name) => [name, name])], "");
  const remark = make("p", { class: "remark", "aria-live": "polite" }), view = make("div", { class: "view viewer" });
  const go = button("Generate", () => start(), "primary"), stop = button("Stop", () => engine.stop("generate"));
  const pace = new Map();  // kind of run -> seconds per step in this browser
  let newest = 0;  // counts the runs; an older one shows nothing more
  let shown = demo.checkpoints[0];  // the checkpoint that the controls fit

  room.append(make("div", { class: "layout stage" }, make("div", { class: "pick" },
    controls.checkpoint.node, controls.class_label.node, controls.weight.node, controls.steps.node, instant.node,
    make("div", { class: "row go" }, go, stop, live.node), remark, controls.sampler.node, controls.schedule.node,
    make("div", { class: "row seed" }, controls.seed.node, button("⚄", () => {
      controls.seed.value = Math.floor(Math.random() * (LAST_ROLLED + 1));
      controls.place.value = "";
      changed();
      if (!live.value) start();
    }, "roll"), controls.count.node), preset.node,
    make("details", {}, make("summary", {}, "More: guidance interval, reverse variance, corrector, noise"),
      ...["interval_from", "interval_to", "variance", "corrector_snr", "place"].map((name) => controls[name].node)), make("p", { class: "hint" }, HINT)), view));
  const show = mount(player, view, { server: { export: animate } });
  room.querySelector(".roll").setAttribute("aria-label", "New seed");
  stop.disabled = true;
  controls.checkpoint.node.hidden = demo.checkpoints.length - pairs.length < 2;  // Instant chooses between two

  const read = () => Object.fromEntries(Object.keys(demo.defaults).map((name) => [name, controls[name].value]));
  const write = (settings) => Object.entries(settings).forEach(([name, value]) => { controls[name].value = value; });
  const describe = (run) => {
    say(remarkOn(demo, run));
    Object.entries(noteEffects(demo, run)).forEach(([name, note]) => annotate(controls[name], note));
  };
  const say = (text, wrong = false) => { remark.textContent = text; remark.classList.toggle("wrong", wrong); };

  // Adapt the controls to the chosen checkpoint.
  function fit(settings) {
    const model = models[settings.checkpoint], pair = pairs.find(({ teacher, student }) => [teacher, student].includes(settings.checkpoint));
    controls.class_label.offer(offerClasses(model), settings.class_label);
    controls.weight.node.hidden = !model.label_names.length;
    controls.weight.step = model.distilled?.spacing ?? SPACING;
    controls.steps.node.querySelectorAll("input").forEach((input) => { input.disabled = Boolean(model.distilled); });
    for (const name of ["sampler", "schedule", "interval_from", "interval_to", "variance", "corrector_snr"]) {
      controls[name].node.querySelectorAll("input, select").forEach((input) => { input.disabled = name in model.fixed; });
    }
    instant.node.hidden = !pair;
    if (!pair) return;
    const { steps } = models[pair.student].distilled, chosen = settings.checkpoint === pair.student ? settings.steps : OFF;
    instant.offer([[OFF, "off"], ...steps.map((count) => [count, String(count)])], chosen);
  }

  // Show settings in the controls, checked. Return their run.
  function apply(settings) {
    const run = prepare(context, settings);
    shown = run.settings.checkpoint;
    fit(run.settings);
    write(run.settings);
    describe(run);
    return run;
  }

  async function play(work) {
    const token = ++newest;
    go.disabled = !live.value;
    stop.disabled = false;
    try { await work(() => token === newest); } catch (error) { if (token === newest) say(error.message, true); }
    if (token === newest) [go.disabled, stop.disabled] = [false, true];
  }

  const start = () => play(async (current) => {
    const run = prepare(context, read());
    describe(run);
    for await (const growing of film(context, run, "generate")) if (current()) show(growing);
    remember(run);
  });

  const kindOf = ({ model, images, guided, sampling }) => [model.name, images, guided, demo.samplers[sampling.sampler].calls].join();
  const remember = (run) => { if (run.pace) pace.set(kindOf(run), run.pace); };

  // Draw every change: first with as many steps as this browser computes in time, then all of them.
  const redraw = () => play(async (current) => {
    const run = prepare(context, read()), { seconds, fewest_steps: fewest } = demo.live, asked = run.sampling.steps;
    const fitting = Math.max(fewest, Math.floor(seconds / (pace.get(kindOf(run)) ?? seconds)));
    describe(run);
    if (fitting < asked && !run.model.distilled) {
      const draft = prepare(context, { ...run.settings, steps: fitting }), whole = await finish(film(context, draft, "generate", true));
      remember(draft);
      if (!whole || !current()) return;
      show({ ...whole, link: "", source: `draft of ${fitting} steps; all ${asked} follow` });
    }
    const whole = await finish(film(context, run, "generate", true));
    if (whole && current()) show(whole);
  });

  function changed() {
    try { describe(prepare(context, read())); } catch (error) { say(error.message, true); }
    if (live.value) redraw();
  }

  function change(settings) {
    try { apply({ ...read(), ...settings }); } catch (error) {
      controls.checkpoint.value = shown;
      fit(read());
      say(error.message, true);
      return;
    }
    if (live.value) redraw(); else start();
  }

  // Choose another checkpoint with its defaults, but for some settings: the seed, the class if it knows it, and those given.
  function choose(checkpoint, given = {}) {
    const model = models[checkpoint], { class_label, seed, count, place } = read();
    const kept = { seed, count, place, class_label: model.label_names.includes(class_label) ? class_label : ALL };
    change({ ...model.defaults, ...kept, ...given, checkpoint });
  }

  for (const [name, control] of Object.entries(controls)) if (name !== "checkpoint") control.node.addEventListener("input", changed);
  live.node.addEventListener("input", () => { if (live.value) redraw(); });
  controls.checkpoint.node.addEventListener("input", () => choose(controls.checkpoint.value));
  instant.node.addEventListener("input", () => {
    const { teacher, student } = pairs.find((pair) => Object.values(pair).includes(controls.checkpoint.value));
    const { defaults } = models[teacher], { lowest, highest, spacing } = models[student].distilled;
    const weight = Math.min(highest, Math.max(lowest, controls.weight.value));
    const always = demo.settings.find(({ name }) => name === "interval"), given = instant.value ? { steps: instant.value } : {};
    if (defaults.interval_from === always.lowest && defaults.interval_to === always.highest) {  // otherwise the weights mean different things
      given.weight = instant.value ? Number((Math.round(weight / spacing) * spacing).toFixed(6)) : weight;
    }
    choose(instant.value ? student : teacher, given);
  });
  preset.node.addEventListener("input", () => { if (preset.value) change(applyPreset(context, read(), preset.value)); });

  // The opening page shows the run of its link, or otherwise one image, which takes less time than one of each class.
  function open(query) {
    const asked = readQuery(demo, query), names = models[demo.checkpoints[0]].label_names;
    const first = Object.keys(asked).length ? asked : { class_label: names[Math.min(3, names.length - 1)] ?? ALL };
    try {
      apply(first);
    } catch (error) {
      context.say(`This link cannot be followed: ${error.message}`);
      apply({});
    }
    start();
  }

  return { open, read, play: change };
}
