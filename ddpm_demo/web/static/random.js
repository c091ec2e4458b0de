// PyTorch's random numbers on a CPU: the same seed gives the same numbers as torch.Generator().manual_seed(seed).
//
// The integers and the uniform numbers are equal to the bit. The normal numbers agree to about 1e-6: PyTorch computes
// their logarithm, sine and cosine in float32, with approximations of its own where the processor has AVX2.

const LENGTH = 624, SHIFT = 397;  // of the state of the Mersenne Twister MT19937 (Matsumoto & Nishimura 1998)

export class Generator {
  // Only the lowest 32 bits of the seed are used, as in PyTorch.
  constructor(seed) {
    this.state = new Uint32Array(LENGTH);
    this.state[0] = seed >>> 0;
    for (let k = 1; k < LENGTH; k++) {
      const before = this.state[k - 1] ^ (this.state[k - 1] >>> 30);
      this.state[k] = Math.imul(1812433253, before) + k;
    }
    this.position = LENGTH;
    this.second = null;  // the second number of the last pair of randnDouble
  }

  // Return the next integer, 0 .. 2^32 - 1.
  random() {
    if (this.position === LENGTH) this.twist();
    let y = this.state[this.position++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  twist() {
    for (let k = 0; k < LENGTH; k++) {
      const y = (this.state[k] & 0x80000000) | (this.state[(k + 1) % LENGTH] & 0x7fffffff);
      this.state[k] = this.state[(k + SHIFT) % LENGTH] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.position = 0;
  }

  // Return a number in [0, 1) with 24 random bits, as PyTorch draws a float32.
  uniform() {
    return (this.random() & 0xffffff) / 2 ** 24;
  }

  // Return a number in [0, 1) with 53 random bits, as PyTorch draws a float64.
  uniformDouble() {
    const high = this.random() & 0x1fffff, low = this.random();
    return (high * 2 ** 32 + low) / 2 ** 53;
  }

  // Return a normal number. Box & Muller 1958 give two at once; the second is kept for the next call.
  randnDouble() {
    if (this.second !== null) {
      const kept = this.second;
      this.second = null;
      return kept;
    }
    const angle = 2 * Math.PI * this.uniformDouble(), radius = Math.sqrt(-2 * Math.log1p(-this.uniformDouble()));
    this.second = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}

// Return ``count`` normal numbers as torch.randn(count, generator=generator, dtype=...) draws them, in an array of ``Kind``:
// Float32Array or Float64Array.
export function randn(count, generator, Kind = Float32Array) {
  const numbers = new Kind(count), draw = () => Kind === Float64Array ? generator.uniformDouble() : generator.uniform();
  if (count < 16) return numbers.map(() => generator.randnDouble());
  for (let k = 0; k < count; k++) numbers[k] = draw();
  for (let k = 0; k + 16 <= count; k += 16) makeNormal(numbers.subarray(k, k + 16));
  if (count % 16) {  // the last sixteen numbers are drawn again
    const last = numbers.subarray(count - 16);
    for (let k = 0; k < 16; k++) last[k] = draw();
    makeNormal(last);
  }
  return numbers;
}

// Return the numbers 0 .. count - 1 in random order, as torch.randperm(count, generator=generator) does.
export function randperm(count, generator) {
  const order = Array.from({ length: count }, (_, k) => k);
  for (let k = 0; k < count - 1; k++) {
    const other = k + generator.random() % (count - k);
    [order[k], order[other]] = [order[other], order[k]];
  }
  return order;
}

// Return ``count`` indices into ``shares``, as torch.multinomial(shares, count, replacement=True, generator=generator) does.
export function multinomial(shares, count, generator) {
  let total = 0;
  const ends = shares.map((share) => total += share);
  return Array.from({ length: count }, () => {
    const drawn = generator.uniformDouble() * total;
    return Math.min(ends.findIndex((end) => drawn < end) >>> 0, shares.length - 1);
  });
}

// Replace sixteen uniform numbers by normal numbers: the pairs are k and k + 8.
function makeNormal(numbers) {
  for (let k = 0; k < 8; k++) {
    const radius = Math.sqrt(-2 * Math.log(1 - numbers[k])), angle = 2 * Math.PI * numbers[k + 8];
    numbers[k] = radius * Math.cos(angle);
    numbers[k + 8] = radius * Math.sin(angle);
  }
}
