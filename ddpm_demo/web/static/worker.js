// Computes in a worker, so that the page stays responsive.
//
// The page sends                                  The worker answers
// {task: "open", checkpoint}                      {event: "progress", checkpoint, received, total} for each part of the
//                                                 files, in bytes, then {event: "ready", checkpoint, model}
// {task: "sample", run, checkpoint, ...request}   {event: "step", run, step, seconds} for each step, then {event: "done", run}
// {task: "stop"}                                  nothing
//
// ``request`` is the last argument of ``sample`` in diffusion.js. A new run or "stop" ends the run that is being computed,
// which then sends no more. An error is answered by {event: "failed", run, message}.
import { sample } from "./diffusion.js";
import { fetchBytes, fetchJson, openNetwork, startRuntime } from "./network.js";
import * as ort from "./onnxruntime.js";

const opened = new Map();  // promises of {model, network} by the name of the checkpoint
let runtime = null;  // promise that the runtime is ready
let current = null;  // the run that is being computed

const { port1, port2 } = new MessageChannel();
// Let the worker receive its messages: a promise alone does not, and a timer waits for at least 4 ms.
const receiveMessages = () => new Promise((resolve) => {
  port1.onmessage = resolve;
  port2.postMessage(null);
});

async function open(checkpoint) {
  const [demo, model] = await Promise.all([fetchJson("demo.json"), fetchJson(`models/${checkpoint}.json`)]);
  const total = model.bytes + (runtime ? 0 : demo.runtime.bytes);
  let received = 0;
  const report = (bytes) => postMessage({ event: "progress", checkpoint, received: received += bytes, total });
  runtime ??= fetchBytes(demo.runtime.file, report).then((wasm) => startRuntime(ort, wasm)).catch((error) => {
    runtime = null;  // the next request tries again
    throw error;
  });
  const [onnx] = await Promise.all([fetchBytes(`models/${model.file}`, report), runtime]);
  return { model, network: await openNetwork(ort, onnx, model) };
}

function ready(checkpoint) {
  if (!opened.has(checkpoint)) {
    opened.set(checkpoint, open(checkpoint).catch((error) => {
      opened.delete(checkpoint);
      throw error;
    }));
  }
  return opened.get(checkpoint);
}

const TASKS = {
  async open({ checkpoint }) {
    const { model } = await ready(checkpoint);
    postMessage({ event: "ready", checkpoint, model });
  },
  async sample({ run, checkpoint, ...request }) {
    current = run;
    const { model, network } = await ready(checkpoint), began = performance.now();
    for await (const step of sample(model, network, request)) {
      await receiveMessages();
      if (current !== run) return;
      const arrays = [step.x, step.x0, step.eps, step.guidance].filter((array) => array);
      const seconds = (performance.now() - began) / 1000;
      postMessage({ event: "step", run, step, seconds }, arrays.map((array) => array.buffer));
    }
    postMessage({ event: "done", run });
  },
  async stop() {
    current = null;
  },
};

onmessage = ({ data: { task, ...request } }) => TASKS[task](request).catch((error) => {
  postMessage({ event: "failed", run: request.run ?? null, message: error.message });
});
