// Computes in a worker, so that the page stays responsive.
//
// The page sends                                  The worker answers
// {task: "open", checkpoint}                      {event: "progress", checkpoint, received, total} for each part of the
//                                                 files, in bytes, then {event: "ready", checkpoint, model}; nothing if
//                                                 the checkpoint is open. The other tasks open it where necessary.
// {task: "sample", run, checkpoint, ...request}   {event: "step", run, step, seconds} for each step, then {event: "done", run}
// {task: "classify", run, checkpoint, ...request} {event: "reading", run, reading} for each reading, then {event: "done", run}
// {task: "stop"}                                  nothing
//
// ``request`` is the last argument of ``sample`` or ``classify`` in diffusion.js. A new run or "stop" ends the run that is
// being computed, which then sends no more. A message may name a ``lane``: runs of different lanes do not end each other, and
// take turns. An error is answered by {event: "failed", run, message}.
import { classify, sample } from "./diffusion.js";
import { fetchBytes, fetchJson, openNetwork, startRuntime } from "./network.js";
import * as ort from "./onnxruntime.js";

const opened = new Map();  // promises of {model, network} by the name of the checkpoint
let runtime = null;  // promise that the runtime is ready
const current = new Map();  // lane -> the run that is being computed

const { port1, port2 } = new MessageChannel(), waiting = [];
port1.onmessage = () => waiting.shift()();
// Let the worker receive its messages: a promise alone does not, and a timer waits for at least 4 ms.
const receiveMessages = () => new Promise((resolve) => {
  waiting.push(resolve);
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
  const network = await openNetwork(ort, onnx, model);
  postMessage({ event: "ready", checkpoint, model });
  return { model, network };
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

// Compute a run part by part, and send what ``describe`` makes of each part and of the seconds so far.
async function compute({ run, lane, checkpoint, ...request }, work, describe) {
  current.set(lane, run);
  const { model, network } = await ready(checkpoint), began = performance.now();
  for await (const part of work(model, network, request)) {
    await receiveMessages();
    if (current.get(lane) !== run) return;
    const [message, buffers] = describe(part, (performance.now() - began) / 1000);
    postMessage({ run, ...message }, buffers);
  }
  if (current.get(lane) === run) current.delete(lane);
  postMessage({ event: "done", run });
}

const TASKS = {
  async open({ checkpoint }) {
    await ready(checkpoint);
  },
  sample(request) {
    return compute(request, sample, (step, seconds) => {
      const arrays = [step.x, step.x0, step.eps, step.guidance].filter((array) => array);
      return [{ event: "step", step, seconds }, arrays.map((array) => array.buffer)];
    });
  },
  classify(request) {
    return compute(request, classify, (reading) => [{ event: "reading", reading }, []]);
  },
  async stop({ lane }) {
    current.delete(lane);
  },
};

onmessage = ({ data: { task, ...request } }) => TASKS[task](request).catch((error) => {
  postMessage({ event: "failed", run: request.run ?? null, message: error.message });
});
