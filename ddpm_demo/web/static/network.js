// Loads the runtime and the exported networks. Every file comes from the folder of the page.

// Return the content of a file (Uint8Array), decompressed if it is gzipped. ``received(bytes)`` is called for each part.
export async function fetchBytes(address, received = () => {}) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be loaded (HTTP status ${response.status})`);
  const parts = [];
  for (let reader = response.body.getReader(), part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    received(part.value.length);
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  const gzipped = bytes[0] === 0x1f && bytes[1] === 0x8b;  // some servers decompress the file themselves
  if (!gzipped) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export const fetchJson = async (address) => JSON.parse(new TextDecoder().decode(await fetchBytes(address)));

// Give the runtime its WebAssembly, so that it loads nothing by itself. It uses one thread: more threads need headers that
// a plain file server does not send.
export function startRuntime(ort, wasmBinary) {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasmBinary;
}

// Return ``network(x, timestep, labels)`` for the content of an exported ONNX file. ``model`` holds the facts about it.
export async function openNetwork(ort, onnx, model) {
  const session = await ort.InferenceSession.create(onnx, { executionProviders: ["wasm"] });
  let turn = Promise.resolve();  // a session computes one call at a time
  const inTurn = (feeds) => turn = turn.catch(() => {}).then(() => session.run(feeds));
  return async (x, timestep, labels) => {
    const count = labels.length;
    const { output } = await inTurn({
      x: new ort.Tensor("float32", x, [count, ...model.shape]),
      timestep: new ort.Tensor("float32", new Float32Array(count).fill(timestep), [count]),
      label: new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [count]),
    });
    return output.data;
  };
}
