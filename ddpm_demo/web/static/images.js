// Pictures, from arrays and to arrays (data/images.py). Images are flat arrays (N, C, H, W) in [-1, 1].
import { alphaSigma } from "./diffusion.js";

// Return a grid of square images as ImageData, ``columns`` in a row, with white lines between them.
export function renderGrid(images, channels, size, columns, gap) {
  const pixels = size * size, count = images.length / (channels * pixels);
  if (count === 1) gap = 0;
  const across = Math.min(columns, count), cell = size + gap;
  const picture = new ImageData(across * cell + gap, Math.ceil(count / across) * cell + gap);
  picture.data.fill(255);
  for (let n = 0; n < count; n++) {
    const left = gap + n % across * cell, top = gap + Math.floor(n / across) * cell;
    for (let k = 0; k < pixels; k++) {
      const target = 4 * ((top + Math.floor(k / size)) * picture.width + left + k % size);
      for (let c = 0; c < 3; c++) {
        picture.data[target + c] = 127.5 * (images[(n * channels + c % channels) * pixels + k] + 1);  // clamped and rounded
      }
    }
  }
  return picture;
}

function makeCanvas(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  return [canvas, canvas.getContext("2d", { willReadFrequently: true })];
}

// Return pictures of the same size, stacked below each other, as a lossless data URI. A missing picture is gray.
export function encodePictures(pictures) {
  const { width, height } = pictures.find((picture) => picture), [canvas, pen] = makeCanvas(width, height * pictures.length);
  pen.fillStyle = "#808080";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pictures.forEach((picture, row) => picture && pen.putImageData(picture, 0, row * height));
  return canvas.toDataURL("image/png");
}

// Return the part (left, top, width, height) of the picture at an address as ImageData; without a part, all of it.
export async function readPicture(address, part) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const [left, top, width, height] = part ?? [0, 0, image.width, image.height], [, pen] = makeCanvas(width, height);
  pen.drawImage(image, -left, -top);
  return pen.getImageData(0, 0, width, height);
}

// Return a picture as an image (C, H, W), and the pixels whose opacity is above a quarter as (H, W), 1 or 0.
export function readPixels({ data, width, height }, channels) {
  const pixels = width * height, image = new Float32Array(channels * pixels);
  image.forEach((_, k) => image[k] = data[4 * (k % pixels) + Math.floor(k / pixels)] / 127.5 - 1);
  return { image, opaque: Uint8Array.from({ length: pixels }, (_, k) => data[4 * k + 3] > 64) };
}

// Scale a noisy state for display: pure noise is halved, a clean image is unchanged.
export function scaleNoisy(x, logSnr) {
  const scale = 1 + alphaSigma(logSnr)[1];
  return x.map((value) => value / scale);
}

// Return signed values as colours (N, 3, H, W): 0 is dark, 1 is orange and -1 is blue. Channels are averaged.
export function colourSigned(values, channels, size) {
  const pixels = size * size, coloured = new Float32Array(values.length / channels * 3), middle = -0.7;
  const [orange, blue] = [[255, 150, 40], [60, 130, 255]].map((colour) => colour.map((part) => part / 127.5 - 1));
  coloured.forEach((_, k) => {
    const n = Math.floor(k / (3 * pixels)), colour = Math.floor(k / pixels) % 3;
    let mean = 0;
    for (let c = 0; c < channels; c++) mean += values[(n * channels + c) * pixels + k % pixels] / channels;
    const end = mean > 0 ? orange : blue;
    coloured[k] = middle + Math.min(Math.abs(mean), 1) * (end[colour] - middle);
  });
  return coloured;
}
