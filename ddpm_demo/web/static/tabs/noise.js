// The Noise pad tab: a distilled model draws the image at every place between four noises (ui/tabs/noise_tab.py).
import * as noisePad from "../components/noise_pad.js";
import { make } from "../controls.js";
import { mount } from "../host.js";
import { encodePictures, renderGrid } from "../images.js";
import { countCalls, prepare } from "../settings.js";

const HINT = `Each corner of the pad is the noise of one seed, and each place between them a mixture of the four. Drag over the pad: a
distilled model draws the image of every place in one network call. Open in Generate, or a click on a corner's picture, opens
that noise in Generate, where the model with many steps draws it.`;

// The pad draws by the model distilled from the checkpoint, or by the first distilled model if none was.
export function build(room, context, checkpoint) {
  const { demo, models, engine, pairs, generate, openTab } = context;
  const { teacher, student } = pairs.find((pair) => pair.teacher === checkpoint) ?? pairs[0], model = models[student];
  const { lowest: from, highest: to } = demo.settings.find(({ name }) => name === "interval");
  const byTeacher = { checkpoint: teacher, interval_from: from, interval_to: to };  // always guided, as a distilled model is
  const { lowest, highest, spacing, steps } = model.distilled, names = model.label_names, pad = make("div");
  room.append(make("p", { class: "hint" }, HINT), pad);

  async function drawImages(settings, seeds, places) {
    const run = prepare(context, settings), count = places.length, labels = Array(count).fill(run.request.labels[0]);
    const request = { ...run.request, labels, count, begin: { kind: "MixedNoise", seeds, places } };
    let last = null;
    for await ({ step: last } of engine.ask("sample", null, request));
    return [last.x0, run];
  }

  const encode = (images, columns) => encodePictures([renderGrid(images, model.channels, model.image_size, columns, 0)]);
  const read = ({ checkpoint, class_label, weight, steps }) => ({ checkpoint, class_label, weight, steps });

  // Draw the rows of a map one after another, so that the place of the handle does not wait for all of them.
  async function draw({ seeds, places, ...order }) {
    const columns = Math.max(1, Math.round(Math.sqrt(places.length))), rows = [];
    for (let k = 0; k < places.length; k += columns) {
      const [images] = await drawImages(read(order), seeds, places.slice(k, k + columns));
      rows.push(...images);
    }
    return { uri: encode(Float32Array.from(rows), columns) };
  }

  async function compare({ seeds, places, ...order }) {
    const pictures = [];
    for (const count of steps) {
      const [images] = await drawImages({ ...read(order), steps: count }, seeds, places);
      pictures.push({ calls: count, uri: encode(images, 1) });
    }
    const [images, run] = await drawImages({ ...read(order), ...byTeacher, steps: models[teacher].defaults.steps }, seeds, places);
    return { pictures: [...pictures, { calls: countCalls(demo, run), uri: encode(images, 1) }] };
  }

  function open({ class_label, weight, seed, place }) {
    openTab("generate");
    generate.play({ ...models[teacher].defaults, class_label, weight, seed: seed ?? demo.defaults.seed, place: place ?? "", ...byTeacher });
  }

  const value = {
    checkpoint: student, names, class_label: names[Math.min(3, names.length - 1)], steps, seeds: demo.noise_seeds,
    weight: { lowest, highest, spacing, value: model.defaults.weight },
  };
  mount(noisePad, pad, { value, server: { draw, compare }, on: { open } });
}
