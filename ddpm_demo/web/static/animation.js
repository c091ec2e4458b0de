// Writes an animated GIF of a film, as ``animate`` in ui/components/player.py does.
import { applyPalette, GIFEncoder, quantize } from "./gifenc.js";

const COLOURS = 256, GAP = 4;  // of a GIF; pixels between the panels of a frame
const MOST_PIXELS = 2 ** 24, WIDEST = 224, LARGEST = 8, LAST = 2000;  // of all frames; of a panel; enlargement; milliseconds

// Return the address of a GIF for a strip of frames, with panels below each other: {uri}, or {error} with a sentence.
export async function animate({ strip, frames, panels }) {
  const image = new Image();
  image.src = strip;
  await image.decode();
  const width = image.width / frames, height = image.height / panels, whole = (width + GAP) * panels - GAP;
  const most = Math.floor(Math.sqrt(MOST_PIXELS / (frames * whole * height)));
  if (!most) return { error: `the animation cannot be written: ${frames} frames of ${whole} x ${height} pixels are too many` };
  const scale = Math.max(1, Math.min(LARGEST, Math.floor(WIDEST / width), most)), gif = GIFEncoder();
  const canvas = Object.assign(document.createElement("canvas"), { width: whole * scale, height: height * scale });
  const pen = canvas.getContext("2d", { willReadFrequently: true }), pause = Math.min(170, Math.max(45, Math.floor(3000 / frames)));
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = "white";
  for (let frame = 0; frame < frames; frame++) {
    pen.fillRect(0, 0, canvas.width, canvas.height);
    for (let panel = 0; panel < panels; panel++) {
      const left = panel * (width + GAP) * scale;
      pen.drawImage(image, frame * width, panel * height, width, height, left, 0, width * scale, height * scale);
    }
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height), [palette, pixels] = reduceColours(data);
    gif.writeFrame(pixels, canvas.width, canvas.height, { palette, delay: frame + 1 < frames ? pause : LAST });
  }
  gif.finish();
  return { uri: URL.createObjectURL(new Blob([gif.bytes()], { type: "image/gif" })) };
}

// Return the palette of a frame and the index of each pixel, without loss where the frame has no more than 256 colours.
function reduceColours(data) {
  const words = new Uint32Array(data.buffer), places = new Map();
  for (const word of words) {
    if (!places.has(word)) places.set(word, places.size);
    if (places.size > COLOURS) {
      const palette = quantize(data, COLOURS);
      return [palette, applyPalette(data, palette)];
    }
  }
  const palette = [...places.keys()].map((word) => [word & 255, (word >> 8) & 255, (word >> 16) & 255]);
  return [palette, Uint8Array.from(words, (word) => places.get(word))];
}
