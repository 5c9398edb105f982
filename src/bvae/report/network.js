// Runs a network's steps, as network.py lists them, on one image (C, H, W) or code (D,) at a time. Values are Float32Arrays
// in PyTorch's order.

// A matrix (rows, n) times the first n numbers of x, a Float64Array: four rows at a time, which spares reads.
function product(w, x, n, rows, y) {
  let row = 0;
  for (; row + 3 < rows; row += 4) {
    const i = row * n, j = i + n, k = j + n, l = k + n;
    let a = 0, b = 0, c = 0, d = 0;
    for (let m = 0; m < n; m++) {
      const v = x[m];
      a += w[i + m] * v;
      b += w[j + m] * v;
      c += w[k + m] * v;
      d += w[l + m] * v;
    }
    y[row] = a;
    y[row + 1] = b;
    y[row + 2] = c;
    y[row + 3] = d;
  }
  for (; row < rows; row++) {
    let a = 0;
    for (let m = 0, i = row * n; m < n; m++) a += w[i + m] * x[m];
    y[row] = a;
  }
}

// The places of the kernel that reach an output row (or column), each with the input's row: [[tap, row], …].
function reach(output, size, step, axis) {
  const stride = step.stride[axis], padding = step.padding[axis], dilation = step.dilation[axis], found = [];
  for (let tap = 0; tap < step.kernel[axis]; tap++) {
    const at = step.transposed ? (output + padding - tap * dilation) / stride : output * stride - padding + tap * dilation;
    if (Number.isInteger(at) && at >= 0 && at < size) found.push([tap, at]);
  }
  return found;
}

// Of the rows of a convolution's weights (K, kernel, C), the part for some places of the kernel, side by side.
function part(w, outputs, places, channels, taps) {
  const found = new Float32Array(outputs * places.length * channels);
  for (let k = 0; k < outputs; k++) places.forEach((place, n) => {
    const from = (k * taps + place) * channels;
    found.set(w.subarray(from, from + channels), (k * places.length + n) * channels);
  });
  return found;
}

// Each output pixel's patch of the input is laid out once, for all output channels.
function convolution(step, [x], w, b) {
  const [channels, height, width] = step.from, [outputs, rows, columns] = step.to, [, side] = step.kernel;
  const pixels = height * width, taps = step.kernel[0] * side, y = new Float32Array(outputs * rows * columns);
  const input = new Float64Array(x.length), patch = new Float64Array(taps * channels), sums = new Float64Array(outputs);
  for (let c = 0; c < channels; c++) for (let p = 0; p < pixels; p++) input[p * channels + c] = x[c * pixels + p];
  const across = Array.from({ length: columns }, (_, column) => reach(column, width, step, 1));
  const key = (found) => found.reduce((sum, [tap]) => sum + 2 ** tap, 0), keys = across.map(key);
  step.parts ??= new Map();
  for (let row = 0; row < rows; row++) {
    const down = reach(row, height, step, 0), first = key(down) * 2 ** side;
    for (let column = 0; column < columns; column++) {
      if (!step.parts.has(first + keys[column])) {
        const places = down.flatMap(([i]) => across[column].map(([j]) => i * side + j));
        step.parts.set(first + keys[column], part(w, outputs, places, channels, taps));
      }
      let n = 0;
      for (const [, r] of down) for (const [, c] of across[column]) {
        for (let from = (r * width + c) * channels, end = from + channels; from < end; from++) patch[n++] = input[from];
      }
      product(step.parts.get(first + keys[column]), patch, n, outputs, sums);
      for (let k = 0; k < outputs; k++) y[(k * rows + row) * columns + column] = sums[k] + (b ? b[k] : 0);
    }
  }
  return y;
}

function upsample(step, [x]) {
  const [channels, height, width] = step.from, [, rows, columns] = step.to, y = new Float32Array(channels * rows * columns);
  for (let c = 0; c < channels; c++) for (let r = 0; r < rows; r++) for (let k = 0; k < columns; k++) {
    const from = (c * height + Math.floor(r * height / rows)) * width + Math.floor(k * width / columns);
    y[(c * rows + r) * columns + k] = x[from];
  }
  return y;
}

function erf(x) { // Abramowitz & Stegun 7.1.26, to 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - tail * Math.exp(-x * x));
}

const sigmoid = (v) => 1 / (1 + Math.exp(-v));
const gelus = {
  none: (v) => 0.5 * v * (1 + erf(v / Math.SQRT2)),
  tanh: (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
};
const each = (make) => (step, [x]) => x.map(make(...(step.given ?? [])));
const OPERATIONS = {
  linear(step, [x], w, b) {
    const sums = new Float64Array(w.length / x.length);
    product(w, Float64Array.from(x), x.length, sums.length, sums);
    return Float32Array.from(sums, (v, k) => v + (b ? b[k] : 0));
  },
  convolution,
  upsample,
  scale: (step, [x], w, b) => x.map((v, n) => { const c = Math.floor(n * w.length / x.length); return v * w[c] + b[c]; }),
  add: (step, [x, y]) => x.map((v, n) => v + y[n]),
  same: (step, [x]) => x,
  relu: each(() => (v) => Math.max(v, 0)),
  leaky_relu: each((slope) => (v) => v > 0 ? v : slope * v),
  elu: each((alpha, scale, inner) => (v) => scale * (v > 0 ? v : alpha * Math.expm1(v * inner))),
  silu: each(() => (v) => v * sigmoid(v)),
  gelu: each((form) => gelus[form]),
  tanh: each(() => Math.tanh),
  sigmoid: each(() => sigmoid),
  softplus: each((beta, threshold) => (v) => v * beta > threshold ? v : Math.log1p(Math.exp(v * beta)) / beta),
  clamp: each((least, most) => (v) => Math.min(Math.max(v, least ?? -Infinity), most ?? Infinity)),
};

function run(steps, tensors, input) {
  const values = [input];
  for (const step of steps) {
    values.push(OPERATIONS[step.op](step, step.x.map((n) => values[n]), tensors[step.w], tensors[step.b]));
  }
  return values.at(-1);
}

// The numbers of a network: vectors as they are, matrices as a scale for each row and integers in planes of bytes.
function unpack(tensors, bits, bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const floats = (start, n) => Float32Array.from({ length: n }, (_, k) => view.getFloat32(start + 4 * k, true));
  return tensors.map(({ rows, columns, start }) => {
    if (!rows) return floats(start, columns);
    const scales = floats(start, rows), size = rows * columns, low = start + 4 * rows, half = 2 ** (bits - 1);
    const values = new Float32Array(size);
    for (let n = 0; n < size; n++) {
      const upper = bits > 8 ? bytes[low + size + n] << 8 : 0;
      values[n] = (bytes[low + n] + upper - half) * scales[(n / columns) | 0];
    }
    return values;
  });
}
