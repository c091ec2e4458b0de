// The page's side of worker.js. ``report(message)`` receives the messages about loading.

export function startEngine(report) {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const inboxes = new Map(), lanes = new Map();  // run -> function that takes its messages; lane -> its newest run
  let last = 0;
  // Messages about loading belong to no run. Those of a run that has ended are dropped.
  worker.onmessage = ({ data }) => (inboxes.get(data.run) ?? (data.run ? () => {} : report))(data);
  worker.onerror = (event) => report({ event: "failed", run: null, message: event.message || "this browser cannot run it" });

  // Yield the answers of the worker to a task. A new task ends the earlier one of its lane, which then yields no more.
  // Without a lane, it ends none.
  async function* ask(task, lane, request) {
    const run = ++last, messages = [];
    lane ??= run;
    let wake = () => {}, open = true;
    const receive = (message) => { messages.push(message); wake(); };
    inboxes.get(lanes.get(lane))?.({ event: "ended" });
    lanes.set(lane, run);
    inboxes.set(run, receive);
    worker.postMessage({ task, run, lane, ...request });
    try {
      for (;;) {
        while (!messages.length) await new Promise((resolve) => wake = resolve);
        const message = messages.shift();
        open = !["done", "failed", "ended"].includes(message.event);
        if (message.event === "failed") throw new Error(message.message);
        if (!open) return;
        yield message;
      }
    } finally {
      inboxes.delete(run);
      if (lanes.get(lane) === run) {
        lanes.delete(lane);
        if (open) worker.postMessage({ task: "stop", lane });
      }
    }
  }

  function stop(lane) {
    inboxes.get(lanes.get(lane))?.({ event: "ended" });
    worker.postMessage({ task: "stop", lane });
  }

  const open = (checkpoint) => worker.postMessage({ task: "open", checkpoint });
  return { ask, stop, open };
}
