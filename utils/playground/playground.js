// The playground: a reader composes an experiment and trains it in this page. `engine` computes as utils.training does,
// in a worker made of its own text; `playground` is what the reader sees. It asks no other host, and sends nothing.
"use strict";

// It needs nothing around it: its text is a worker's whole program. Arrays are float32, (rows, columns) row by row.
function engine() {
  // torch's generator on a CPU (mt19937), with what initialisation, batches and noise draw from it.
  class Generator {
    constructor(seed) {
      this.state = new Uint32Array(624);
      this.state[0] = seed;
      for (let i = 1; i < 624; i++) {
        const last = this.state[i - 1];
        this.state[i] = Math.imul(1812433253, last ^ (last >>> 30)) + i;
      }
      this.place = 624;
      this.spare = null;
    }

    bits() {
      const { state } = this;
      if (this.place === 624) {
        for (let i = 0; i < 624; i++) {
          const both = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
          state[i] = state[(i + 397) % 624] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
        }
        this.place = 0;
      }
      let y = state[this.place++];
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c5680;
      y ^= (y << 15) & 0xefc60000;
      return (y ^ (y >>> 18)) >>> 0;
    }

    below(n) {
      return this.bits() % n;
    }

    uniform(array, low = 0, high = 1) {
      const from = Math.fround(low);
      const width = Math.fround(Math.fround(high) - from);
      for (let i = 0; i < array.length; i++) array[i] = ((this.bits() & 0xffffff) / 2 ** 24) * width + from;
      return array;
    }

    // Box-Muller on blocks of 16; a rest draws the last 16 anew. Fewer than 16 come in pairs, in double precision.
    normal(array, mean = 0, std = 1) {
      const { length } = array;
      if (length < 16) {
        for (let i = 0; i < length; i++) array[i] = this.one() * std + mean;
        return array;
      }
      this.uniform(array);
      const block = (start) => {
        for (let i = start; i < start + 8; i++) {
          const radius = Math.sqrt(-2 * Math.log(1 - array[i]));
          const angle = 2 * Math.PI * array[i + 8];
          array[i] = radius * Math.cos(angle) * std + mean;
          array[i + 8] = radius * Math.sin(angle) * std + mean;
        }
      };
      for (let i = 0; i + 16 <= length; i += 16) block(i);
      if (length % 16) {
        this.uniform(array.subarray(length - 16));
        block(length - 16);
      }
      return array;
    }

    one() {
      const { spare } = this;
      this.spare = null;
      if (spare !== null) return spare;
      const fine = () => ((this.bits() & 0x1fffff) * 2 ** 32 + this.bits()) / 2 ** 53; // the last 53 of 64 bits
      const angle = 2 * Math.PI * fine();
      const radius = Math.sqrt(-2 * Math.log1p(-fine()));
      this.spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    }
  }

  // --- data ----------------------------------------------------------------------------------------------------------

  const TOYS = { // as in utils/toys.py
    moons: (t, label) => {
      const angle = Math.PI * t;
      return label ? [1 - Math.cos(angle), 0.5 - Math.sin(angle)] : [Math.cos(angle), Math.sin(angle)];
    },
    circles: (t, label) => {
      const [radius, angle] = [label ? 0.5 : 1, 2 * Math.PI * t];
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    },
    spirals: (t, label) => {
      const [radius, angle] = [1.5 * Math.sqrt(t), Math.PI * (3 * Math.sqrt(t) + label)];
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    },
  };

  function toy(name) {
    const [train, count] = [600, 900];
    const chance = new Generator(0).uniform(new Float32Array(5 * count));
    const data = { x: new Float32Array(2 * count), y: new Uint8Array(count), train, inputs: 2, outputs: 2 };
    for (let i = 0; i < count; i++) {
      data.y[i] = i % 2;
      const [t, a, b, c, d] = chance.subarray(5 * i, 5 * i + 5);
      const place = TOYS[name](t, data.y[i]);
      data.x[2 * i] = place[0] + 0.2 * (a + b - 1);
      data.x[2 * i + 1] = place[1] + 0.2 * (c + d - 1);
    }
    return data;
  }

  function digits({ train, base64 }) { // a byte a pixel, from 0 to 16, 64 of them an image; then all labels
    const bytes = atob(base64);
    const pixels = (bytes.length / 65) * 64;
    const data = { x: new Float32Array(pixels), y: new Uint8Array(pixels / 64), train, inputs: 64, outputs: 10 };
    for (let i = 0; i < pixels; i++) data.x[i] = bytes.charCodeAt(i) / 16;
    for (let i = 0; i < pixels / 64; i++) data.y[i] = bytes.charCodeAt(pixels + i);
    return data;
  }

  function standardize({ x, inputs, train }) {
    for (let j = 0; j < inputs; j++) {
      const [mean, square] = statistics(x, j, inputs, train, "std");
      for (let i = j; i < x.length; i += inputs) x[i] = (x[i] - mean) / (Math.sqrt(square) + 0.1);
    }
  }

  // --- arithmetic ----------------------------------------------------------------------------------------------------

  // c = a times b transposed: (m, k), (n, k) -> (m, n), in blocks of two rows and four columns.
  function multiply(a, b, c, m, n, k) {
    if (m < 2 || n < 4) {
      for (let i = 0; i < m * n; i++) {
        let [p, q, sum] = [Math.floor(i / n) * k, (i % n) * k, 0];
        for (const end = p + k; p < end; p++, q++) sum += a[p] * b[q];
        c[i] = sum;
      }
      return;
    }
    for (let i = 0; i < m; i += 2) {
      const row = Math.min(i, m - 2); // the last block may overlap the one before it
      const p0 = row * k, p1 = p0 + k;
      for (let j = 0; j < n; j += 4) {
        const column = Math.min(j, n - 4);
        const q0 = column * k, q1 = q0 + k, q2 = q1 + k, q3 = q2 + k;
        let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
        for (let t = 0; t < k; t++) {
          const x0 = a[p0 + t], x1 = a[p1 + t];
          const y0 = b[q0 + t], y1 = b[q1 + t], y2 = b[q2 + t], y3 = b[q3 + t];
          s00 += x0 * y0; s01 += x0 * y1; s02 += x0 * y2; s03 += x0 * y3;
          s10 += x1 * y0; s11 += x1 * y1; s12 += x1 * y2; s13 += x1 * y3;
        }
        const at = row * n + column;
        c[at] = s00; c[at + 1] = s01; c[at + 2] = s02; c[at + 3] = s03;
        c[at + n] = s10; c[at + n + 1] = s11; c[at + n + 2] = s12; c[at + n + 3] = s13;
      }
    }
  }

  function transpose(a, to, rows, columns) {
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) to[j * rows + i] = a[i * columns + j];
    return to;
  }

  const NONLINEARITIES = { // and their slopes, from what they gave
    sigmoid: [(y) => 1 / (1 + Math.exp(-y)), (a) => a * (1 - a)],
    tanh: [Math.tanh, (a) => 1 - a * a],
    relu: [(y) => Math.max(0, y), (a) => +(a > 0)],
  };

  // --- norms ---------------------------------------------------------------------------------------------------------

  // What a norm takes off and divides by, over the batch or an example's `own` units; the `bias` is that of Wu + b.
  const NORMS = {
    plain: null,
    bn: { centred: true, size: "std" },
    noisy: { centred: true, size: "std", noisy: true },
    layer: { centred: true, size: "std", own: true, bias: true },
    rms: { size: "rms", own: true, bias: true },
    l1: { centred: true, size: "l1" },
    l2: { centred: true, size: "l2" },
    linf: { centred: true, size: "linf" },
    centre: { centred: true },
    scale: { size: "std", bias: true },
  };
  const EPS = 1e-5;

  // Of the m values from `start` on, `stride` apart: their mean, and their size (of std and rms the square).
  function statistics(x, start, stride, m, kind) {
    const end = start + m * stride;
    let mean = 0, sum = 0;
    for (let i = start; i < end; i += stride) mean += x[i];
    mean /= m;
    if (kind === "linf") for (let i = start; i < end; i += stride) sum = Math.max(sum, m * Math.abs(x[i]));
    else if (kind === "l1") for (let i = start; i < end; i += stride) sum += Math.abs(x[i]);
    else for (let i = start, from = kind === "std" ? mean : 0; i < end; i += stride) sum += (x[i] - from) ** 2;
    return [mean, kind === "l2" ? Math.sqrt(sum / m) : sum / m];
  }

  const divisor = (kind, size) => (!kind ? 1 : kind[0] === "l" ? size + EPS : Math.sqrt(size + EPS));

  class Norm {
    constructor(name, width, generator) {
      Object.assign(this, { how: NORMS[name], width, generator });
      this.gamma = parameter(width, 1);
      this.beta = parameter(width);
      this.parameters = name === "rms" ? [this.gamma] : [this.gamma, this.beta];
      this.running = [new Float32Array(width), new Float32Array(width).fill(1)]; // means and sizes
    }

    // What shares its statistics: so many lines of m values, `stride` apart; `next` is from a line to the next.
    lines(rows) {
      const { how, width } = this;
      if (how.own) return { count: rows, m: width, stride: 1, next: width };
      return { count: width, m: rows, stride: width, next: 1 };
    }

    forward(room, layer) {
      const { how, width, running, gamma, beta } = this;
      const { z, hat, y } = layer;
      const { count, m, stride, next } = this.lines(room.rows);
      layer.told = [];
      for (let line = 0; line < count; line++) {
        const isSeen = room.training || how.own; // else running statistics stand in
        const stored = running.map((each) => each[line]);
        const [mean, size] = isSeen ? statistics(z, line * next, stride, m, how.size) : stored;
        if (isSeen && !how.own) {
          const now = [mean, how.size === "std" ? (size * m) / (m - 1) : size]; // the unbiased variance
          running.forEach((each, i) => (each[line] += 0.1 * (now[i] - each[line])));
        }
        const [from, by] = [how.centred ? mean : 0, divisor(how.size, size)];
        for (let i = line * next, end = i + m * stride; i < end; i += stride) hat[i] = (z[i] - from) / by;
        layer.told.push([mean, size, by]);
      }
      for (let i = 0; i < hat.length; i++) y[i] = hat[i] * gamma.value[i % width] + beta.value[i % width];
      if (how.noisy && room.training) this.disturb(layer);
    }

    // Santurkar et al. 2018, Algorithm 1, with the draws of utils.norms.draw_noises.
    disturb(layer) {
      const { width, generator } = this;
      const { y } = layer;
      const even = generator.uniform(new Float32Array(2 * width + y.length));
      const factor = generator.normal(new Float32Array(y.length));
      for (let i = 0; i < y.length; i++) {
        const unit = i % width;
        const shift = 0.5 * (2 * even[unit] - 1) - 0.1 + 0.2 * even[2 * width + i];
        factor[i] = 1 + 0.25 * even[width + unit] + 0.1 * factor[i];
        y[i] = factor[i] * y[i] + shift;
      }
      layer.factor = factor;
    }

    // From the gradient of y, in `dz`, to that of z, in its place.
    backward(room, layer) {
      const { how, width, gamma, beta } = this;
      const { z, hat, dz } = layer;
      const { count, m, stride, next } = this.lines(room.rows);
      if (how.noisy) for (let i = 0; i < dz.length; i++) dz[i] *= layer.factor[i];
      gamma.gradient.fill(0);
      beta.gradient.fill(0);
      for (let i = 0; i < dz.length; i++) {
        const unit = i % width;
        gamma.gradient[unit] += dz[i] * hat[i];
        beta.gradient[unit] += dz[i];
        dz[i] *= gamma.value[unit];
      }
      for (let line = 0; line < count; line++) {
        const [start, end] = [line * next, line * next + m * stride];
        const [mean, size, by] = layer.told[line];
        let sum = 0, along = 0, largest = 0;
        for (let i = start; i < end; i += stride) {
          sum += dz[i];
          along += dz[i] * hat[i];
          if (Math.abs(z[i]) === size) largest++;
        }
        const off = how.centred ? sum / m : 0;
        // How the divisor follows z: as a line through `from`; or of l1 and linf, by the sign of what is large enough.
        const from = how.size === "std" ? mean : 0;
        const rise = !how.size ? 0 : 1 / (m * (how.size === "l2" ? size || Infinity : by));
        const [bySign, least] = how.size === "linf" ? [1 / largest, size] : [1 / m, 0];
        const signs = how.size === "l1" || how.size === "linf";
        for (let i = start; i < end; i += stride) {
          const slope = !signs ? rise * (z[i] - from) : Math.abs(z[i]) < least ? 0 : bySign * Math.sign(z[i]);
          dz[i] = (dz[i] - off - along * slope) / by;
        }
      }
    }
  }

  // --- the network and its training ----------------------------------------------------------------------------------

  function parameter(size, value = 0) {
    return { value: new Float32Array(size).fill(value), gradient: new Float32Array(size), first: null, second: null };
  }

  class Network {
    constructor({ inputs, outputs }, { depth, width, norm, nonlinearity, init, seed }) {
      const generator = new Generator(seed);
      const widths = [inputs, ...Array(depth).fill(width), outputs];
      this.bend = NONLINEARITIES[nonlinearity];
      this.layers = widths.slice(1).map((wide, i) => {
        const hidden = i < depth;
        const layer = { from: widths[i], wide, hidden, weight: parameter(widths[i] * wide) };
        const std = { glorot: Math.sqrt(2 / (widths[i] + wide)), he: Math.sqrt(2 / widths[i]) }[init] ?? init;
        if (init === "glorot") generator.uniform(layer.weight.value, -Math.sqrt(3) * std, Math.sqrt(3) * std);
        else generator.normal(layer.weight.value, 0, std);
        layer.bias = !hidden || !NORMS[norm] || NORMS[norm].bias ? parameter(wide) : null;
        layer.norm = hidden && NORMS[norm] ? new Norm(norm, wide, generator) : null;
        return layer;
      });
      const learned = ({ weight, bias, norm }) => [weight, bias, ...(norm?.parameters ?? [])];
      this.parameters = this.layers.flatMap(learned).filter(Boolean);
    }

    // Where the values of so many examples stand; in training, what enters each nonlinearity (y) stays to be looked at.
    room(rows, training) {
      const layers = this.layers.map(({ from, wide, norm }) => {
        const [z, a, dz, turned, hat, y] = Array.from({ length: 6 }, () => new Float32Array(rows * wide));
        const [turnedInput, turnedWeight] = [new Float32Array(rows * from), new Float32Array(from * wide)];
        return { z, hat, y: norm ? y : z, a, dz, turned, turnedInput, turnedWeight };
      });
      return { rows, training, layers };
    }

    scores(x, room) {
      const [bend] = this.bend;
      let input = x;
      this.layers.forEach(({ from, wide, hidden, weight, bias, norm }, i) => {
        const { z, y, a } = room.layers[i];
        multiply(input, weight.value, z, room.rows, wide, from);
        if (bias) for (let k = 0; k < z.length; k++) z[k] += bias.value[k % wide];
        if (norm) norm.forward(room, room.layers[i]);
        if (hidden) for (let k = 0; k < a.length; k++) a[k] = bend(y[k]);
        input = hidden ? a : z;
      });
      return input;
    }

    // From the gradient of the scores, in the last layer's dz, to those of all parameters.
    backward(x, room) {
      const slope = this.bend[1];
      for (let i = this.layers.length - 1; i >= 0; i--) {
        const { from, wide, hidden, weight, bias, norm } = this.layers[i];
        const [here, below] = [room.layers[i], room.layers[i - 1]];
        const { dz, a } = here;
        if (hidden) for (let k = 0; k < dz.length; k++) dz[k] *= slope(a[k]);
        if (norm) norm.backward(room, here);
        if (bias) {
          bias.gradient.fill(0);
          for (let k = 0; k < dz.length; k++) bias.gradient[k % wide] += dz[k];
        }
        const turned = transpose(dz, here.turned, room.rows, wide);
        const input = transpose(below ? below.a : x, here.turnedInput, room.rows, from);
        multiply(turned, input, weight.gradient, wide, from, room.rows);
        if (!below) return;
        multiply(dz, transpose(weight.value, here.turnedWeight, wide, from), below.dz, room.rows, from, wide);
      }
    }
  }

  // Cross-entropy in nats and the share of right answers; `gradient`, if given, becomes that of the scores.
  function judge(scores, labels, classes, gradient) {
    const rows = labels.length;
    let loss = 0, right = 0;
    for (let row = 0; row < rows; row++) {
      const mine = scores.subarray(row * classes, (row + 1) * classes);
      const largest = Math.max(...mine);
      const sum = mine.reduce((total, score) => total + Math.exp(score - largest), 0);
      loss += (Math.log(sum) + largest - mine[labels[row]]) / rows;
      right += +(mine.indexOf(largest) === labels[row]) / rows;
      if (!gradient) continue;
      for (let k = 0; k < classes; k++) {
        gradient[row * classes + k] = (Math.exp(mine[k] - largest) / sum - (k === labels[row])) / rows;
      }
    }
    return { loss, accuracy: right };
  }

  const OPTIMIZERS = {
    sgd: (lr) => ({ value, gradient }) => {
      for (let i = 0; i < value.length; i++) value[i] -= lr * gradient[i];
    },
    momentum: (lr) => (told) => {
      const { value, gradient } = told;
      const velocity = (told.first ??= new Float32Array(value.length));
      for (let i = 0; i < value.length; i++) {
        velocity[i] = 0.9 * velocity[i] + gradient[i];
        value[i] -= lr * velocity[i];
      }
    },
    adam: (lr, step) => (told) => {
      const { value, gradient } = told;
      const first = (told.first ??= new Float32Array(value.length));
      const second = (told.second ??= new Float32Array(value.length));
      const [rate, size] = [lr / (1 - 0.9 ** step), Math.sqrt(1 - 0.999 ** step)];
      for (let i = 0; i < value.length; i++) {
        first[i] += 0.1 * (gradient[i] - first[i]);
        second[i] = 0.999 * second[i] + 0.001 * gradient[i] * gradient[i];
        value[i] -= (rate * first[i]) / (Math.sqrt(second[i]) / size + 1e-8);
      }
    },
  };

  const EVALS = 25; // how often the test data are looked at, evenly spaced, halves rounded to even as NumPy does
  function evalSteps(steps) {
    return new Set(Array.from({ length: EVALS }, (_, i) => {
      const at = i < EVALS - 1 ? i * (steps / (EVALS - 1)) : steps;
      return Math.floor(at) + +(at % 1 > 0.5 || (at % 1 === 0.5 && Math.floor(at) % 2 === 1));
    }));
  }

  class Training {
    constructor(settings, stored) {
      const data = settings.data === "digits" ? digits(stored) : toy(settings.data);
      if (settings.inputs === "standardised") standardize(data);
      const { inputs, train } = data;
      Object.assign(this, { settings, data, step: 0, ended: "", generator: new Generator(settings.seed) });
      this.network = new Network(data, settings);
      this.room = this.network.room(settings.batch, true);
      this.x = new Float32Array(settings.batch * inputs);
      this.y = new Uint8Array(settings.batch);
      this.test = { x: data.x.subarray(train * inputs), y: data.y.subarray(train) };
      this.testRoom = this.network.room(this.test.y.length, false);
      this.evals = evalSteps(settings.steps);
      this.draw();
    }

    draw() {
      const { x, y, inputs, train } = this.data;
      this.batch = Array.from(this.y, () => this.generator.below(train));
      this.batch.forEach((place, i) => {
        this.x.set(x.subarray(place * inputs, (place + 1) * inputs), i * inputs);
        this.y[i] = y[place];
      });
    }

    // One update: the loss and the accuracy on its batch, before it.
    update() {
      const { network, room, settings } = this;
      const gradient = room.layers.at(-1).dz;
      const found = judge(network.scores(this.x, room), this.y, this.data.outputs, gradient);
      network.backward(this.x, room);
      network.parameters.forEach(OPTIMIZERS[settings.optimizer](settings.lr, ++this.step));
      if (!Number.isFinite(found.loss)) this.ended = "diverged";
      else if (this.step === settings.steps) this.ended = "done";
      this.draw();
      return found;
    }

    tested() {
      return judge(this.network.scores(this.test.x, this.testRoom), this.test.y, this.data.outputs);
    }

    // What entered each nonlinearity on the last batch: percentiles 5, 50 and 95, and a histogram from -reach to reach.
    spread() {
      const layers = this.room.layers.slice(0, -1).map(({ y }) => {
        const every = Math.ceil(y.length / 1000);
        return Float32Array.from({ length: Math.floor(y.length / every) }, (_, i) => y[i * every]).sort();
      });
      const at = (each, share) => each[Math.round(share * (each.length - 1))];
      const percentiles = layers.map((each) => [0.05, 0.5, 0.95].map((share) => at(each, share)));
      const far = Math.max(...percentiles.flat().map(Math.abs)) * 1.5;
      const ten = 10 ** Math.floor(Math.log10(far)) || 1;
      const reach = [1, 2, 5, 10].find((times) => times * ten >= far) * ten;
      const histograms = layers.map((each) => {
        const counts = new Uint16Array(40);
        for (const value of each) if (Math.abs(value) < reach) counts[Math.floor((20 * value) / reach) + 20]++;
        return counts;
      });
      return { reach, percentiles, histograms };
    }
  }

  // A worker's life: it trains for a thirtieth of a second, tells the page, and listens whether it is to pause.
  function serve(scope) {
    const { port1, port2 } = new MessageChannel();
    let training;
    let [going, queued] = [false, false];
    const goOn = () => {
      if (!going || queued) return;
      queued = true;
      port2.postMessage(0);
    };
    const test = ({ tests }) => {
      if (training.evals.has(training.step)) tests.push([training.step, training.tested().accuracy]);
    };
    port1.onmessage = () => {
      queued = false;
      if (!going) return;
      const news = { loss: [], accuracy: [], tests: [] };
      const until = performance.now() + 34;
      if (!training.step) test(news);
      do {
        const { loss, accuracy } = training.update();
        news.loss.push(loss);
        news.accuracy.push(accuracy);
        if (training.ended !== "diverged") test(news);
      } while (!training.ended && training.step > 1 && performance.now() < until);
      going = !training.ended;
      scope.postMessage({ ...news, step: training.step, ended: training.ended, spread: training.spread() });
      goOn();
    };
    scope.onmessage = ({ data: { settings, stored, go } }) => {
      if (settings) training = new Training(settings, stored);
      going = go && Boolean(training);
      goOn();
    };
  }

  return { Generator, Training, toy, digits, standardize, multiply, serve };
}

// --- in words --------------------------------------------------------------------------------------------------------

const NEED_A_BATCH = ["bn", "noisy", "l1", "l2", "linf", "centre", "scale"];

// Why a composition makes no sense, or nothing.
function trouble({ norm, batch }) {
  if (batch > 1 || !NEED_A_BATCH.includes(norm)) return "";
  return (
    "In a batch of one, the only value is its own mean: nothing is left to normalise. " +
    "Take two examples or more, or a norm that looks at one example alone (layer norm, RMS norm)."
  );
}

// The same run with the book's own code.
function script({ data, inputs, optimizer, batch, seed, ...rest }) {
  const toy = data !== "digits";
  const given = {
    data, inputs: inputs.replace("ised", "ized"), ...rest,
    ...{ sgd: {}, momentum: { momentum: 0.9 }, adam: { optimizer: "adam" } }[optimizer], batch_size: batch,
  };
  return [
    ...(toy ? [`from utils.toys import ${data}`] : []),
    `from utils.training import ${toy ? "TASKS, Settings, Task, train" : "Settings, train"}`,
    "",
    ...(toy ? [`TASKS["${data}"] = Task(${data}, inputs=2, outputs=2)  # or data of your own`] : []),
    "settings = Settings(",
    ...Object.entries(given).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`),
    ")",
    `run = train(settings, seed=${seed})`,
    'print(f"test accuracy {run.test_accuracy[-1]:.1%}")',
    'print(f"loss {run.final_loss(10):.3f}")',
    "",
  ].join("\n");
}

const per = (share) => `${(100 * share).toFixed(share > 0.995 && share < 1 ? 1 : 0)} %`;
const short = (value) => {
  const few = Math.abs(value) < 1e5 ? `${+value.toPrecision(2)}` : value.toExponential(0).replace("+", "");
  return few.replace("-", "\u2212");
};
const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;

// What a run has come to, and where its ridges lie.
function told({ state, step, settings, tests, loss }) {
  if (!step) return "begins";
  const steps = `${step} ${step > 1 ? "steps" : "step"}`;
  if (state === "diverged") return `diverged: after ${steps} the loss is no finite number`;
  const when = state === "done" ? `after ${steps}` : `${state} at step ${step} of ${settings.steps}`;
  return `${when}: loss ${short(mean(loss.slice(-10)))}, ${per(tests.at(-1)[1])} of the test data right`;
}

function reaches({ spread }) {
  if (!spread) return "";
  const [first, last] = [0, -1].map((layer) => {
    const [low, , high] = spread.percentiles.at(layer);
    return `${short(low)} and ${short(high)}`;
  });
  return ` Nine in ten values that enter its first nonlinearity lie between ${first}, its last between ${last}.`;
}

// --- drawing ---------------------------------------------------------------------------------------------------------

const MOST_RUNS = 4;
const DASHES = [[9, 4], [], [7, 3, 2, 3], [2, 3]]; // of the four looks; their colours are in playground.css
const LIKES = { plain: 0, bn: 1 }; // the looks that these have everywhere in the book

// A canvas in the page's own pixels, sharp on every screen; `ink` has the theme's colours.
class Paper {
  constructor(canvas, height, ink) {
    const sharp = devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    const [wide, high] = [Math.round(this.width * sharp), Math.round(height * sharp)];
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.style.height = `${height}px`;
      Object.assign(canvas, { width: wide, height: high }); // which is slow
    }
    Object.assign(this, { ink, pen: canvas.getContext("2d") });
    this.pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    this.pen.clearRect(0, 0, this.width, height);
  }

  text(words, x, y, { colour = this.ink.muted, side = "left", bold = false } = {}) {
    const font = `${bold ? "bold 13" : "12"}px system-ui, sans-serif`;
    Object.assign(this.pen, { fillStyle: colour, textAlign: side, font });
    this.pen.fillText(words, x, y);
  }

  line(points, colour, { width = 1, dash = [], alpha = 1 } = {}) {
    Object.assign(this.pen, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
    this.pen.setLineDash(dash);
    this.pen.beginPath();
    for (const [x, y] of points) this.pen.lineTo(x, y);
    this.pen.stroke();
    this.pen.globalAlpha = 1;
  }

  // A panel's title and ticks; returns what takes steps and values to the paper.
  panel({ x, y, width, height }, title, right, [low, high], ticks, write, scale = (value) => value) {
    const share = (value) => (scale(value) - scale(low)) / (scale(high) - scale(low));
    const across = (step) => x + (width * step) / right;
    const up = (value) => y + height * (1 - Math.min(1, Math.max(0, share(value))));
    this.text(title, x - 40, y - 10, { colour: this.ink.ink, bold: true });
    for (const tick of ticks) {
      this.line([[x, up(tick)], [x + width, up(tick)]], this.ink.faint);
      this.text(write(tick), x - 5, up(tick) + 4, { side: "right" });
    }
    for (const [part, side] of [[0, "left"], [0.5, "center"], [1, "right"]]) {
      this.text(`${right * part}${part === 0.5 ? " steps" : ""}`, across(right * part), y + height + 16, { side });
    }
    return (points) => points.map(([step, value]) => [across(step), up(value)]);
  }

  // Each run's letter at the end of its line, none on another.
  ends(lines) {
    const ends = lines.filter(({ points }) => points.length).map(({ run, points }) => [run, ...points.at(-1)]);
    ends.sort((a, b) => a[2] - b[2]);
    let above = -Infinity;
    for (const [run, x, y] of ends) {
      above = Math.max(y, above + 13);
      const words = run.state === "diverged" ? `\u2715 ${run.name}` : run.name;
      this.text(words, x + 4, above + 4, { colour: run.colour, bold: true });
    }
  }

  // A histogram a layer, the first at the top, its median as a bar.
  ridges({ x, y, width, height }, { colour, spread: { reach, histograms, percentiles } }) {
    const { pen, ink } = this;
    const row = height / histograms.length;
    const across = (value) => x + (width * (value / reach + 1)) / 2;
    histograms.forEach((counts, layer) => {
      const base = y + row * (layer + 1);
      const tall = Math.min(1.5 * row, 34) / Math.max(...counts, 1);
      const top = Array.from(counts, (count, i) => [x + (width * (i + 0.5)) / counts.length, base - tall * count]);
      this.line([[x, base], ...top, [x + width, base]], colour);
      for (const [fill, alpha] of [[ink.paper, 1], [colour, 0.3]]) {
        Object.assign(pen, { fillStyle: fill, globalAlpha: alpha });
        pen.fill();
      }
      Object.assign(pen, { fillStyle: ink.ink, globalAlpha: 1 });
      pen.fillRect(across(percentiles[layer][1]) - 1, base - row / 2, 2, row / 2);
    });
    for (const [value, side] of [[-reach, "left"], [0, "center"], [reach, "right"]]) {
      this.text(short(value), across(value), y + height + 15, { side });
    }
  }
}

// At most 200 points of a curve, each the mean over its neighbours.
function smooth(values) {
  const every = Math.ceil(values.length / 200);
  const points = [];
  for (let i = 0; i < values.length; i += every) {
    const near = values.slice(Math.max(0, i - 2 * every), i + 2 * every + 1).filter(Number.isFinite);
    if (near.length) points.push([i + 1, mean(near)]);
  }
  return points;
}

function picture(canvas, runs, ink) {
  const narrow = canvas.clientWidth < 520;
  const rows = narrow ? 2 : 1;
  const [tall, deep] = [narrow ? 130 : 165, 130];
  const middle = 44 + rows * (tall + 54);
  const paper = new Paper(canvas, middle + (narrow && runs.length > 2 ? 2 : 1) * (deep + 46), ink);
  const half = paper.width / (narrow ? 1 : 2);
  const place = (i) => {
    const [x, y] = narrow ? [0, i * (tall + 54)] : [i * half, 0];
    return { x: x + 42, y: y + 24, width: half - 72, height: tall };
  };

  const right = Math.max(100, ...runs.map(({ settings }) => settings.steps));
  const means = runs.map(({ loss }) => smooth(loss));
  const lowest = Math.min(0.1, ...means.flat().map(([, value]) => Math.max(1e-6, value)));
  const decades = Array.from({ length: 2 - Math.floor(Math.log10(lowest)) }, (_, i) => 10 ** (1 - i));
  const limits = [decades.at(-1), 10];
  const plain = (value) => +value.toPrecision(1);
  const losses = paper.panel(place(0), "Loss on the batch", right, limits, decades, plain, Math.log10);
  const shares = paper.panel(place(1), "Accuracy: test, and batch (pale)", right, [0, 1], [0, 0.5, 1], per);
  const drawn = runs.map((run, i) => {
    return { run, loss: losses(means[i]), test: shares(run.tests), batch: shares(smooth(run.accuracy)) };
  });
  for (const { run, loss, test, batch } of drawn) {
    paper.line(batch, run.colour, { alpha: 0.35 });
    for (const points of [loss, test]) paper.line(points, run.colour, { width: 2.2, dash: DASHES[run.look] });
  }
  paper.ends(drawn.map(({ run, loss }) => ({ run, points: loss })));
  paper.ends(drawn.map(({ run, test }) => ({ run, points: test })));

  const title = "What enters each layer's nonlinearity";
  const more = narrow ? "" : ", on the last batch, from the first layer down";
  paper.text(title + more, 2, middle - 16, { colour: ink.ink, bold: true });
  const part = paper.width / (narrow ? 2 : 4);
  for (let i = 0; i < (narrow && runs.length < 3 ? 2 : MOST_RUNS); i++) {
    const [column, row] = narrow ? [i % 2, Math.floor(i / 2)] : [i, 0];
    const box = { x: part * column + 6, y: middle + 20 + row * (deep + 46), width: part - 12, height: deep };
    paper.line([[box.x, box.y + deep], [box.x + box.width, box.y + deep]], ink.faint);
    if (!runs[i]?.spread) continue;
    paper.ridges(box, runs[i]);
    paper.text(runs[i].name, box.x + 3, box.y - 4, { colour: runs[i].colour, bold: true });
  }
}

// --- the figure ------------------------------------------------------------------------------------------------------

// One training, in a worker of its own, which starts at once and waits for its data; `heard` is called at all news.
function trained(settings, heard) {
  const run = { settings, loss: [], accuracy: [], tests: [], step: 0, state: "training", spread: null };
  trained.source ??= URL.createObjectURL(new Blob([`"use strict"; (${engine})().serve(self)`]));
  const worker = new Worker(trained.source);
  worker.onmessage = ({ data: { loss, accuracy, tests, step, spread, ended } }) => {
    run.loss.push(...loss);
    run.accuracy.push(...accuracy);
    run.tests.push(...tests);
    if (Number.isFinite(spread.reach)) run.spread = spread; // else it is that before the loss broke
    Object.assign(run, { step, state: ended || run.state });
    if (ended) worker.terminate();
    heard();
  };
  run.begins = (stored) => worker.postMessage({ settings, stored, go: run.state === "training" });
  run.goes = (go, state) => {
    run.state = state;
    worker.postMessage({ go });
  };
  run.end = () => worker.terminate();
  return run;
}

// Wires the markup of page.py, with `controls`, `speaker`, `address` and `calm` of explore.js.
function playground(root) {
  const find = (selector) => root.querySelector(selector);
  const parts = [...root.querySelectorAll(".explorable-control")];
  const fields = parts.map(({ dataset: { name, words } }) => ({ name, words: JSON.parse(words) }));
  const [go, pause, reset] = root.querySelectorAll(".playground-actions button");
  const [canvas, list] = [find("canvas"), find(".playground-runs")];
  const [code, alarm] = [find("code"), find(".explorable-error")];
  const say = speaker(root);
  const AWAY = "paused while the page was hidden";
  let runs = [];
  let ink, stored, waiting;

  // --- what is composed: every way into it ends in `set`: a move, an address, Back, a reload
  const { read, show } = controls(root, (state) => {
    set(state);
    follow();
  });
  const words = () => read().map((at, i) => [fields[i].name, fields[i].words[at]]);
  const settings = () => Object.fromEntries(words().map(([name, word]) => [name, Number.isNaN(+word) ? word : +word]));
  const complain = (text) => Object.assign(alarm, { textContent: text, hidden: !text });
  const set = (state) => {
    show(state);
    code.textContent = script(settings());
    complain(trouble(settings()));
  };
  const inWords = ({ depth, width, lr, batch, seed }) => {
    const texts = [...root.querySelectorAll("select")].map((field) => field.selectedOptions[0].text);
    const [data, inputs, norm, bend, init, optimizer] = texts;
    const layers = `${depth} ${depth > 1 ? "layers" : "layer"} of ${width}`;
    const training = `${optimizer} at ${lr}, batches of ${batch}`;
    return `${norm}, ${bend}, ${layers}, ${init}; ${training}; ${data}, ${inputs}; seed ${seed}`;
  };

  // --- what is seen of the runs: drawn at most once a frame, and where motion is unwelcome once a second
  const draw = () => {
    waiting = 0;
    picture(canvas, runs, ink);
    const sentences = runs.map((run) => (run.line.querySelector("span").textContent = told(run)));
    const said = runs.map((run, i) => `${run.name} ${sentences[i]}.${run.state === "diverged" ? "" : reaches(run)}`);
    const sentence = said.join(" ") || "Choose, and press Train.";
    canvas.setAttribute("aria-label", sentence);
    say(sentence);
    find(".explorable-readout").hidden = runs.length;
    const going = runs.some(({ state }) => state === "training");
    const waits = runs.some(({ state }) => state === "paused");
    pause.disabled = !going && !waits;
    pause.textContent = waits && !going ? "Go on" : "Pause";
    reset.disabled = !runs.length;
  };
  const soon = () => (waiting ||= calm() ? setTimeout(draw, 1000) : requestAnimationFrame(draw));
  const colours = () => {
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    ink = { paper: of("paper"), ink: of("ink"), muted: of("muted"), faint: of("faint") };
    for (const run of runs) run.colour = of(`run-${run.look}`);
    draw();
  };

  // --- runs
  const digits = () => // asked for at the first run on them
    (stored ??= new Promise((loaded, failed) => {
      const tag = Object.assign(document.createElement("script"), { src: root.dataset.digits });
      tag.onload = () => loaded(globalThis.PLAYGROUND_DIGITS);
      tag.onerror = () => failed((stored = undefined));
      document.head.append(tag);
    }));
  const begin = async () => {
    const chosen = settings();
    const what = inWords(chosen);
    const full = runs.length === MOST_RUNS ? "Four runs stand side by side: remove one first." : "";
    const wrong = trouble(chosen) || full;
    if (wrong) return complain(wrong);
    complain("");
    const looks = [LIKES[chosen.norm], 2, 3, 0, 1].filter((look) => !runs.some((run) => run.look === look));
    const name = [..."ABCD"].find((letter) => !runs.some((run) => run.name === letter));
    const run = Object.assign(trained(chosen, soon), { name, look: looks.find((look) => look >= 0) });
    run.line = find("template").content.firstElementChild.cloneNode(true);
    run.line.style.setProperty("--run", `var(--run-${run.look})`);
    run.line.querySelector("path").setAttribute("stroke-dasharray", DASHES[run.look].join(" ") || "none");
    run.line.querySelector("b").append(name);
    run.line.querySelector("i").textContent = what;
    const cross = run.line.querySelector("button");
    cross.setAttribute("aria-label", `Remove run ${name}`);
    cross.addEventListener("click", () => remove(run));
    runs.push(run);
    list.append(run.line);
    colours();
    const data = chosen.data === "digits" ? await digits().catch(() => null) : {};
    if (data) return run.begins(data);
    remove(run);
    complain("The digits could not be loaded.");
  };
  const remove = (run) => {
    run.end();
    run.line.remove();
    runs = runs.filter((each) => each !== run);
    complain(trouble(settings()));
    draw();
    (list.querySelector("button") ?? go).focus();
  };
  const all = (from, to) => {
    for (const run of runs) if (run.state === from) run.goes(to === "training", to);
    draw();
  };
  go.addEventListener("click", begin);
  const either = (first, from, to) => (first ? all(from, to) : all(to, from));
  pause.addEventListener("click", () => either(pause.textContent === "Pause", "training", "paused"));
  reset.addEventListener("click", () => runs.forEach(remove));
  document.addEventListener("visibilitychange", () => either(document.hidden, "training", AWAY));

  // --- the address, as that of every explorable
  const name = root.dataset.playground;
  let [hidden, timer] = ["", 0];
  const named = () => address.of(name, hidden ? [...words(), ["hide", hidden]] : words());
  const write = () => {
    timer = clearTimeout(timer);
    history.replaceState(history.state, "", named());
  };
  const follow = () => {
    clearTimeout(timer); // a browser allows few changes a second
    timer = setTimeout(write, 250);
  };
  addEventListener("pagehide", () => timer && write());
  const obey = () => {
    const { name: asked, words: said } = address.parse();
    if (asked !== name) return false;
    hidden = said.get("hide") ?? "";
    const without = new Set(hidden.split(","));
    for (const part of parts) part.hidden = without.has("all") || without.has(part.dataset.name);
    const places = fields.map((field) => field.words.indexOf(said.get(field.name)));
    set(read().map((now, i) => (places[i] < 0 ? now : places[i])));
    return true;
  };
  const copies = (button, text, failed) =>
    button.addEventListener("click", async () => {
      const label = button.textContent;
      const copied = await navigator.clipboard?.writeText(text()).then(() => true, () => false);
      button.textContent = find(".explorable-spoken").textContent = copied ? "Copied" : failed;
      setTimeout(() => (button.textContent = label), 2000);
    });
  copies(find(".explorable-link"), () => (write(), named()), "See the address bar");
  copies(find("details button"), () => code.textContent, "Select it above");

  addEventListener("hashchange", () => obey() && root.scrollIntoView());
  addEventListener("pageshow", () => set(read())); // what the browser has put back
  new ResizeObserver(soon).observe(canvas);
  new MutationObserver(colours).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  set(read());
  if (obey()) addEventListener("load", () => root.scrollIntoView(), { once: true });
  for (const part of [find(".playground-actions"), find("details"), find(".explorable-link")]) part.hidden = false;
  colours();
  root.dataset.ready = "";
}

if (typeof document !== "undefined") document.querySelectorAll("figure[data-playground]").forEach(playground);
